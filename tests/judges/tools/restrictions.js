// Drives every operation of IBM's unmodified Node client of context-based restrictions, and says what it was answered.
// Arguments: URL of the API, API key, instance, authenticator (none, bearer or iam). Output: one JSON line an operation.
const Restrictions = require('@ibm-cloud/platform-services/context-based-restrictions/v1');
const { BearerTokenAuthenticator, IamAuthenticator, NoAuthAuthenticator } = require('ibm-cloud-sdk-core');

const [url, key, account, kind] = process.argv.slice(2);
const authenticator = {
  none: () => new NoAuthAuthenticator(),
  bearer: () => new BearerTokenAuthenticator({ bearerToken: key }),
  iam: () => new IamAuthenticator({ apikey: key, url }),
}[kind]();
const client = new Restrictions({ authenticator, serviceUrl: url });
const apiType = 'crn:v1:bluemix:public:event-notifications::::api-type:smtp-configuration';

async function say(operation, params) {
  try {
    const { status, result, headers } = await client[operation](params);
    console.log(JSON.stringify({ operation, status, result, etag: headers.etag }));
    return { result, etag: headers.etag };
  } catch (fault) {
    console.log(JSON.stringify({ operation, status: fault.status, message: fault.message }));
    return { result: {} };
  }
}

async function main() {
  const addresses = [
    { type: 'ipAddress', value: '192.0.2.1' },
    { type: 'ipRange', value: '192.0.2.10-192.0.2.20' },
    { type: 'subnet', value: '2001:db8::/32' },
  ];
  const name = `zone of ${kind}`;
  const zone = await say('createZone', { name, accountId: account, addresses });
  const zoneId = zone.result.id || 'none';
  await say('listZones', { accountId: account });
  await say('getZone', { zoneId });
  await say('replaceZone', { zoneId, ifMatch: zone.etag || 'x', name, accountId: account, addresses: addresses.slice(0, 1) });
  await say('replaceZone', { zoneId, ifMatch: zone.etag || 'x', name, accountId: account, addresses });
  const contexts = [{ attributes: [{ name: 'networkZoneId', value: zoneId }] }];
  const resources = [{
    attributes: [
      { name: 'accountId', value: account },
      { name: 'serviceName', value: 'event-notifications' },
    ],
  }];
  const operations = { api_types: [{ api_type_id: apiType }] };
  const rule = await say('createRule', { contexts, resources, operations, enforcementMode: 'report' });
  const ruleId = rule.result.id || 'none';
  await say('listRules', { accountId: account });
  await say('getRule', { ruleId });
  await say('replaceRule', { ruleId, ifMatch: rule.etag || 'x', contexts, resources, operations, enforcementMode: 'disabled' });
  await say('deleteZone', { zoneId });
  await say('getAccountSettings', { accountId: account });
  await say('listAvailableServiceOperations', { serviceName: 'event-notifications' });
  await say('listAvailableServicerefTargets', { type: 'all' });
  await say('getServicerefTarget', { serviceName: 'none' });
  await say('deleteRule', { ruleId });
  await say('deleteZone', { zoneId });
}

main();
