//! A Kafka server that wants to know who asks: TLS, passwords, and rights.

use crate::kafka::Broker;
use rdkafka::admin::AdminClient;
use rdkafka::bindings as native;
use rdkafka::client::DefaultClientContext;
use std::ffi::CString;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Who may do all, by SASL PLAIN; and who may do what [`Secure::allow`] says.
pub const USERS: [(&str, &str); 2] = [("alice", "alice-secret"), ("bob", "bob-secret")];
/// Who may do all, by SCRAM-SHA-512.
pub const SCRAM_USER: (&str, &str) = ("carol", "carol-secret");

/// The server. Over [`Secure::servers`] it takes known users only; over its other port, without encryption, all may do all, as
/// tests need it.
pub struct Secure {
    /// The server.
    pub broker: Broker,
    port: u16,
    folder: tempfile::TempDir,
}

/// What [`Secure::allow`] gives a right of.
#[derive(Clone, Copy, Debug)]
pub enum Of<'a> {
    /// A topic.
    Topic(&'a str),
    /// All transactional ids that begin with this.
    TransactionalIds(&'a str),
}

/// A right.
pub use native::rd_kafka_AclOperation_t as Right;

impl Secure {
    /// Starts it; the certificate is made by the `keytool` that comes with every Java.
    pub fn start() -> Option<Secure> {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("server.p12");
        keytool(&[
            "-genkeypair",
            "-alias",
            "server",
            "-keyalg",
            "RSA",
            "-keysize",
            "2048",
            "-validity",
            "3650",
            "-dname",
            "CN=localhost",
            "-ext",
            "san=dns:localhost,ip:127.0.0.1",
            "-storetype",
            "PKCS12",
            "-storepass",
            "secret",
            "-keystore",
            store.to_str().unwrap(),
        ]);
        let trusted = folder.path().join("trusted.pem");
        keytool(&[
            "-exportcert",
            "-rfc",
            "-alias",
            "server",
            "-storepass",
            "secret",
            "-keystore",
            store.to_str().unwrap(),
            "-file",
            trusted.to_str().unwrap(),
        ]);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let secure = format!("SECURE://127.0.0.1:{port}");
        let listeners = format!("PLAINTEXT://127.0.0.1:${{PORT}},{secure},CONTROLLER://127.0.0.1:${{CONTROLLER}}");
        let users: String = USERS.iter().map(|(user, password)| format!(" user_{user}=\"{password}\"")).collect();
        let plain = format!("org.apache.kafka.common.security.plain.PlainLoginModule required{users};");
        let (user, password) = SCRAM_USER;
        let settings = [
            ("listeners", listeners.as_str()),
            ("advertised.listeners", &listeners),
            ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL"),
            ("inter.broker.listener.name", "PLAINTEXT"),
            ("listener.name.secure.sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-512"),
            ("listener.name.secure.plain.sasl.jaas.config", &plain),
            (
                "listener.name.secure.scram-sha-512.sasl.jaas.config",
                "org.apache.kafka.common.security.scram.ScramLoginModule required;",
            ),
            ("listener.name.secure.ssl.keystore.type", "PKCS12"),
            ("listener.name.secure.ssl.keystore.location", store.to_str().unwrap()),
            ("listener.name.secure.ssl.keystore.password", "secret"),
            ("listener.name.secure.ssl.key.password", "secret"),
            ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
            ("super.users", &format!("User:ANONYMOUS;User:{};User:{user}", USERS[0].0)),
        ];
        let scram = format!("SCRAM-SHA-512=[name=\"{user}\",password=\"{password}\"]");
        let broker = Broker::start_formatted(&settings, &["--add-scram", &scram])?;
        Some(Secure { broker, port, folder })
    }

    /// For `bootstrap.servers` of users.
    pub fn servers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The certificate to trust, in PEM form.
    pub fn trusted(&self) -> PathBuf {
        self.folder.path().join("trusted.pem")
    }

    /// Gives a user a right.
    pub fn allow(&self, user: &str, of: Of, right: Right) {
        let admin: AdminClient<DefaultClientContext> = self.broker.admin();
        let client = admin.inner().native_ptr();
        let (kind, name, pattern) = match of {
            Of::Topic(name) => (
                native::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC,
                name,
                native::rd_kafka_ResourcePatternType_t::RD_KAFKA_RESOURCE_PATTERN_LITERAL,
            ),
            Of::TransactionalIds(prefix) => (
                native::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TRANSACTIONAL_ID,
                prefix,
                native::rd_kafka_ResourcePatternType_t::RD_KAFKA_RESOURCE_PATTERN_PREFIXED,
            ),
        };
        let text = |text: &str| CString::new(text).unwrap();
        let (name, principal, host) = (text(name), text(&format!("User:{user}")), text("*"));
        // SAFETY: the texts outlive the call; binding, queue and event are destroyed once each, after their last use.
        unsafe {
            let mut binding = native::rd_kafka_AclBinding_new(
                kind,
                name.as_ptr(),
                pattern,
                principal.as_ptr(),
                host.as_ptr(),
                right,
                native::rd_kafka_AclPermissionType_t::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW,
                std::ptr::null_mut(),
                0,
            );
            assert!(!binding.is_null(), "{of:?}");
            let queue = native::rd_kafka_queue_new(client);
            native::rd_kafka_CreateAcls(client, &mut binding, 1, std::ptr::null(), queue);
            let event = native::rd_kafka_queue_poll(queue, 30_000);
            assert!(!event.is_null(), "the server doesn't answer");
            let error = native::rd_kafka_event_error(event);
            assert_eq!(error, native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
            native::rd_kafka_event_destroy(event);
            native::rd_kafka_AclBinding_destroy(binding);
            native::rd_kafka_queue_destroy(queue);
        }
    }
}

fn keytool(args: &[&str]) {
    let output = Command::new("keytool").args(args).stdin(Stdio::null()).output().expect("start keytool");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
