// Submits one message with nodemailer, STARTTLS required and the certificate checked; prints the server's last reply.
const fs = require("node:fs");
const nodemailer = require("nodemailer");

const wish = JSON.parse(fs.readFileSync(0, "utf8"));

async function main() {
  const transport = nodemailer.createTransport({
    host: "127.0.0.1",
    port: wish.port,
    secure: false,
    requireTLS: true,
    tls: { ca: fs.readFileSync(wish.ca) },
    auth: { user: wish.username, pass: wish.password },
  });
  const sent = await transport.sendMail(wish.message);
  transport.close();
  console.log(sent.response);
}

main().catch((fault) => {
  console.error(fault);
  process.exit(1);
});
