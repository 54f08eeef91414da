"""What to type into which application or mail server, as data: one text each, filled in for one user.

In a text stand `$host`, `$port` (STARTTLS), `$tls_port` (TLS from the first octet), `$username`, `$password`,
`$sender` and `$domain`; a dollar sign of the client's own language is doubled.
"""

# ruff: noqa: S106 - places for passwords, no passwords

import msgspec


class ClientSettings(msgspec.Struct, frozen=True):
    """How a client is set up."""

    title: str
    text: str


def typed(title: str, where: str, **answers: str) -> ClientSettings:
    """Return settings that are typed into a form, one line per field."""
    width = max(map(len, answers)) + 2
    lines = [f"  {name.replace('_', ' '):{width}}{value}" for name, value in answers.items()]
    return ClientSettings(title, f"{where}\n" + "\n".join(lines))


def written(title: str, where: str, text: str) -> ClientSettings:
    """Return settings that are written into a file or a program."""
    return ClientSettings(title, f"{where}\n\n{text.strip(chr(10))}")


APPLICATIONS: dict[str, ClientSettings] = {
    "jira": typed(
        "Jira Data Center",
        "Administration > System > Outgoing Mail > Configure new SMTP mail server:",
        From_address="$sender",
        Service_provider="Custom",
        Protocol="SMTP",
        Host_name="$host",
        SMTP_port="$port",
        TLS="on (this is STARTTLS)",
        Username="$username",
        Password="$password",
    ),
    "confluence": typed(
        "Confluence Data Center",
        "Administration > General configuration > Mail servers > Add SMTP mail server:",
        From_address="$sender",
        Hostname="$host",
        Port="$port",
        Use_TLS="on (this is STARTTLS)",
        User_name="$username",
        Password="$password",
    ),
    "servicenow": typed(
        "ServiceNow",
        "System Mailboxes > Email Accounts > New:",
        Type="SMTP",
        Server="$host",
        Port="$port",
        Authentication="Password",
        Connection_security="STARTTLS",
        User_name="$username",
        Password="$password",
        From="$sender",
    ),
    "gitlab": written(
        "GitLab (Omnibus)",
        "In /etc/gitlab/gitlab.rb, then `gitlab-ctl reconfigure`:",
        """
gitlab_rails['smtp_enable'] = true
gitlab_rails['smtp_address'] = "$host"
gitlab_rails['smtp_port'] = $port
gitlab_rails['smtp_user_name'] = "$username"
gitlab_rails['smtp_password'] = "$password"
gitlab_rails['smtp_domain'] = "$domain"
gitlab_rails['smtp_authentication'] = "login"
gitlab_rails['smtp_enable_starttls_auto'] = true
gitlab_rails['smtp_tls'] = false
gitlab_rails['smtp_openssl_verify_mode'] = 'peer'
gitlab_rails['gitlab_email_from'] = '$sender'
gitlab_rails['gitlab_email_reply_to'] = '$sender'
""",
    ),
    "jenkins": typed(
        "Jenkins",
        "Manage Jenkins > System > Jenkins Location (first line) and E-mail Notification > Advanced (the others):",
        System_Admin_e_mail_address="$sender",
        SMTP_server="$host",
        Use_SMTP_authentication="on",
        User_Name="$username",
        Password="$password",
        Use_SSL="off",
        Use_TLS="on (this is STARTTLS)",
        SMTP_Port="$port",
    ),
    "grafana": written(
        "Grafana",
        "In grafana.ini, then restart:",
        """
[smtp]
enabled = true
host = $host:$port
user = $username
password = \"\"\"$password\"\"\"
from_address = $sender
ehlo_identity = $domain
startTLS_policy = MandatoryStartTLS
""",
    ),
    "alertmanager": written(
        "Prometheus Alertmanager",
        "In alertmanager.yml:",
        """
global:
  smtp_smarthost: '$host:$port'
  smtp_from: '$sender'
  smtp_hello: '$domain'
  smtp_auth_username: '$username'
  smtp_auth_password: '$password'
  smtp_require_tls: true
""",
    ),
    "sonarqube": typed(
        "SonarQube",
        "Administration > Configuration > General > Email:",
        SMTP_host="$host",
        SMTP_port="$port",
        Secure_connection="STARTTLS",
        SMTP_username="$username",
        SMTP_password="$password",
        From_address="$sender",
    ),
    "keycloak": typed(
        "Keycloak",
        "Realm settings > Email:",
        From="$sender",
        Host="$host",
        Port="$port",
        Enable_SSL="off",
        Enable_StartTLS="on",
        Authentication="on",
        Username="$username",
        Password="$password",
    ),
    "nextcloud": typed(
        "Nextcloud",
        "Administration settings > Basic settings > Email server:",
        Send_mode="SMTP",
        Encryption="None/STARTTLS",
        From_address="$sender",
        Server_address="$host : $port",
        Authentication="on",
        Credentials="$username / $password",
    ),
    "wordpress": written(
        "WordPress",
        "In a plugin or in functions.php, with the constant POSTLANE_PASSWORD in wp-config.php:",
        """
add_action('phpmailer_init', function ($$mail) {
    $$mail->isSMTP();
    $$mail->Host = '$host';
    $$mail->Port = $port;
    $$mail->SMTPAuth = true;
    $$mail->SMTPSecure = 'tls';
    $$mail->Username = '$username';
    $$mail->Password = POSTLANE_PASSWORD;   // $password
    $$mail->setFrom('$sender');
});
""",
    ),
    "zabbix": typed(
        "Zabbix",
        "Alerts > Media types > Email:",
        SMTP_server="$host",
        SMTP_server_port="$port",
        Email="$sender",
        SMTP_helo="$domain",
        Connection_security="STARTTLS",
        SSL_verify_peer="on",
        SSL_verify_host="on",
        Authentication="Username and password",
        Username="$username",
        Password="$password",
    ),
    "postfix": written(
        "Postfix as a satellite",
        "Write /etc/postfix/sasl_passwd (mode 0600), then `postmap /etc/postfix/sasl_passwd`:",
        """
[$host]:$port $username:$password

In /etc/postfix/main.cf, then `postfix reload`; senders of other domains than $domain are refused, so rewrite them:

relayhost = [$host]:$port
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd
smtp_sasl_security_options = noanonymous
smtp_tls_security_level = secure
smtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt
myorigin = $domain
""",
    ),
    "exim": written(
        "Exim 4",
        "In the configuration: a line in the main part, a router before the others, a transport, an authenticator:",
        """
qualify_domain = $domain

begin routers
postlane:
  driver = manualroute
  domains = ! +local_domains
  transport = postlane
  route_list = * $host::$port byname
  host_find_failed = defer
  no_more

begin transports
postlane:
  driver = smtp
  hosts_require_auth = *
  hosts_require_tls = *
  tls_verify_certificates = system

begin authenticators
postlane:
  driver = plaintext
  public_name = PLAIN
  client_send = ^$username^$password
""",
    ),
    "sendmail": written(
        "Sendmail",
        "In sendmail.mc, then rebuild; in /etc/mail/authinfo (mode 0600, then makemap hash) the second part:",
        """
define(`SMART_HOST', `[$host]')dnl
define(`RELAY_MAILER_ARGS', `TCP $$h $port')dnl
FEATURE(`authinfo', `hash /etc/mail/authinfo')dnl
MASQUERADE_AS(`$domain')dnl
FEATURE(`masquerade_envelope')dnl

AuthInfo:$host "U:$username" "P:$password" "M:LOGIN"
""",
    ),
    "cron": written(
        "cron, by msmtp",
        "Install msmtp and msmtp-mta (it takes the place of sendmail), write /etc/msmtprc (mode 0640, group msmtp):",
        """
account default
host $host
port $port
tls on
tls_starttls on
tls_trust_file system
auth plain
user $username
password $password
from $sender
set_from_header on

and at the top of the crontab: MAILTO=you@your-company.example
""",
    ),
}
