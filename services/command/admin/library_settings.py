"""What to write into programs of one's own, by language and library, and at a prompt: like `client_settings`."""

from services.command.admin.client_settings import ClientSettings, written

LIBRARIES: dict[str, ClientSettings] = {
    "python": written(
        "Python, smtplib",
        "In the program:",
        """
import smtplib, ssl
from email.message import EmailMessage

message = EmailMessage()
message["From"], message["To"], message["Subject"] = "$sender", "somebody@example.org", "Hello"
message.set_content("Hello.")
with smtplib.SMTP("$host", $port) as server:
    server.starttls(context=ssl.create_default_context())
    server.login("$username", "$password")
    server.send_message(message)
""",
    ),
    "django": written(
        "Django",
        "In settings.py:",
        """
EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
EMAIL_HOST = "$host"
EMAIL_PORT = $port
EMAIL_USE_TLS = True
EMAIL_HOST_USER = "$username"
EMAIL_HOST_PASSWORD = "$password"
DEFAULT_FROM_EMAIL = SERVER_EMAIL = "$sender"
""",
    ),
    "nodemailer": written(
        "Node.js, Nodemailer",
        "In the program:",
        """
const transport = require("nodemailer").createTransport({
  host: "$host",
  port: $port,
  secure: false,
  requireTLS: true,
  auth: { user: "$username", pass: "$password" },
});
await transport.sendMail({ from: "$sender", to: "somebody@example.org", subject: "Hello", text: "Hello." });
""",
    ),
    "java": written(
        "Java, Jakarta Mail",
        "Properties of the session, with the user and password given to Transport.connect or an Authenticator:",
        """
mail.smtp.host=$host
mail.smtp.port=$port
mail.smtp.auth=true
mail.smtp.starttls.enable=true
mail.smtp.starttls.required=true
mail.smtp.ssl.checkserveridentity=true
mail.smtp.from=$sender

user $username, password $password
""",
    ),
    "spring": written(
        "Spring Boot",
        "In application.properties:",
        """
spring.mail.host=$host
spring.mail.port=$port
spring.mail.username=$username
spring.mail.password=$password
spring.mail.properties.mail.smtp.auth=true
spring.mail.properties.mail.smtp.starttls.enable=true
spring.mail.properties.mail.smtp.starttls.required=true
spring.mail.properties.mail.smtp.from=$sender
""",
    ),
    "dotnet": written(
        ".NET, MailKit",
        "In the program (System.Net.Mail.SmtpClient knows STARTTLS too, with EnableSsl, but is not kept up any more):",
        """
using var client = new MailKit.Net.Smtp.SmtpClient();
await client.ConnectAsync("$host", $port, MailKit.Security.SecureSocketOptions.StartTls);
await client.AuthenticateAsync("$username", "$password");
await client.SendAsync(message);   // message.From: $sender
await client.DisconnectAsync(true);
""",
    ),
    "php": written(
        "PHP, PHPMailer",
        "In the program:",
        """
$$mail = new PHPMailer\\PHPMailer\\PHPMailer(true);
$$mail->isSMTP();
$$mail->Host = '$host';
$$mail->Port = $port;
$$mail->SMTPSecure = PHPMailer\\PHPMailer\\PHPMailer::ENCRYPTION_STARTTLS;
$$mail->SMTPAuth = true;
$$mail->Username = '$username';
$$mail->Password = '$password';
$$mail->setFrom('$sender');
""",
    ),
    "laravel": written(
        "Laravel",
        "In .env:",
        """
MAIL_MAILER=smtp
MAIL_HOST=$host
MAIL_PORT=$port
MAIL_USERNAME=$username
MAIL_PASSWORD=$password
MAIL_FROM_ADDRESS=$sender
""",
    ),
    "symfony": written(
        "Symfony Mailer",
        "In .env, and in config/packages/mailer.yaml:",
        """
MAILER_DSN=smtp://$username:$password@$host:$port?require_tls=true

framework:
    mailer:
        envelope: { sender: '$sender' }
        headers: { From: '$sender' }
""",
    ),
    "rails": written(
        "Ruby on Rails",
        "In config/environments/production.rb:",
        """
config.action_mailer.delivery_method = :smtp
config.action_mailer.default_options = { from: "$sender" }
config.action_mailer.smtp_settings = {
  address: "$host", port: $port, domain: "$domain",
  user_name: "$username", password: "$password",
  authentication: :plain, enable_starttls: true,
}
""",
    ),
    "go": written(
        "Go, net/smtp",
        "In the program; SendMail uses STARTTLS by itself:",
        """
auth := smtp.PlainAuth("", "$username", "$password", "$host")
err := smtp.SendMail("$host:$port", auth, "$sender", []string{"somebody@example.org"}, message)
""",
    ),
    "powershell": written(
        "PowerShell",
        "In a script; the password is asked for:",
        """
Send-MailMessage -SmtpServer $host -Port $port -UseSsl -Credential (Get-Credential $username) `
  -From $sender -To somebody@example.org -Subject Hello -Body Hello.
""",
    ),
    "curl": written(
        "curl",
        "At a prompt, with the message in message.eml:",
        """
curl --ssl-reqd smtp://$host:$port --user '$username:$password' \\
  --mail-from $sender --mail-rcpt somebody@example.org --upload-file message.eml
""",
    ),
    "swaks": written(
        "swaks",
        "At a prompt:",
        """
swaks --server $host --port $port --tls --auth LOGIN --auth-user $username --auth-password '$password' \\
  --from $sender --to somebody@example.org
""",
    ),
}
