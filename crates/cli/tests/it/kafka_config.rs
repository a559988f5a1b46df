//! Jobs against a Kafka server that wants TLS and passwords and gives rights; and what is told, before anything is read, where
//! an option is wrong or a right is missing.

use crate::script::{Script, stdout_of};
use millstream_testbed::kafka::{Broker, Record, unique};
use millstream_testbed::secure::{Of, Right, SCRAM_USER, Secure, USERS};
use std::process::Output;
use std::sync::OnceLock;

fn secure() -> Option<&'static Secure> {
    static SHARED: OnceLock<Option<Secure>> = OnceLock::new();
    SHARED.get_or_init(Secure::start).as_ref()
}

/// The options of who asks.
fn login(secure: &Secure, mechanism: &str, (user, password): (&str, &str)) -> String {
    format!(
        "'properties.bootstrap.servers' = '{}', 'properties.security.protocol' = 'SASL_SSL',
         'properties.ssl.ca.location' = '{}', 'properties.sasl.mechanism' = '{mechanism}',
         'properties.sasl.username' = '{user}', 'properties.sasl.password' = '{password}'",
        secure.servers(),
        secure.trusted().display()
    )
}

/// Copies topic `from` to topic `to`.
fn copy(from: &str, to: &str, of_source: &str, of_sink: &str) -> Script {
    Script::new(&format!(
        "CREATE TABLE a (id BIGINT) WITH ('connector' = 'kafka', 'topic' = '{from}', 'format' = 'json',
           'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', {of_source});
         CREATE TABLE b (id BIGINT) WITH ('connector' = 'kafka', 'topic' = '{to}', 'format' = 'json',
           'sink.delivery-guarantee' = 'exactly-once', 'sink.marker-topic' = 'markers-{to}',
           'sink.transactional-id-prefix' = 'copy-{to}', {of_sink});
         INSERT INTO b SELECT id FROM a;"
    ))
}

/// Two topics, the first with three records.
fn topics(broker: &Broker) -> (String, String) {
    let (from, to) = (unique("from"), unique("to"));
    broker.create_topic(&from, 1);
    broker.create_topic(&to, 1);
    broker.produce(&[1, 2, 3].map(|id| Record::value(&from, format!("{{\"id\":{id}}}"))));
    (from, to)
}

#[test]
fn topics_are_read_and_written_over_tls_by_who_has_the_password() {
    let Some(secure) = secure() else { return };
    for (mechanism, user) in [("PLAIN", USERS[0]), ("SCRAM-SHA-512", SCRAM_USER)] {
        let (from, to) = topics(&secure.broker);
        let options = login(secure, mechanism, user);
        stdout_of(&copy(&from, &to, &options, &options).run(&["--parallelism", "1"]));
        let copied: Vec<String> = secure.broker.read_committed(&to).iter().map(Record::text).collect();
        assert_eq!(copied, ["{\"id\":1}", "{\"id\":2}", "{\"id\":3}"]);
    }
}

/// One error with each of `parts`, told before anything was written; the exit code is 2 for what the script says, else 1.
fn check_told(script: &Script, code: i32, parts: &[&str]) {
    check_output(&script.run(&["--parallelism", "1"]), code, parts);
}

fn check_output(output: &Output, code: i32, parts: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("error: ") && said.matches("\nerror: ").count() == 0, "{said}");
    parts.iter().for_each(|part| assert!(said.contains(part), "no '{part}' in: {said}"));
    assert_eq!(output.status.code(), Some(code), "{said}");
}

#[test]
fn who_may_not_come_in_is_told_with_the_option_that_is_wrong() {
    let Some(secure) = secure() else { return };
    let (from, to) = topics(&secure.broker);
    let right = login(secure, "PLAIN", USERS[0]);
    let wrong = |a: &str, b: &str| {
        assert!(right.contains(a), "{right}");
        right.replace(a, b)
    };
    let other = Script::new("");
    let certificate = other.path("other.pem");
    std::fs::write(&certificate, OTHER).unwrap();
    let (trusted, untrusted) = (secure.trusted().display().to_string(), certificate.display().to_string());
    let cases: [(String, i32, &[&str]); 6] = [
        (wrong("alice-secret", "guessed"), 2, &["don't take who is asking", "option 'properties.sasl.username'"]),
        (wrong("'PLAIN'", "'SCRAM-SHA-256'"), 2, &["don't take who is asking", "option 'properties.sasl.username'"]),
        (wrong(&trusted, &untrusted), 2, &["no encrypted connection", "properties.ssl.ca.location"]),
        (wrong(&trusted, "/no/such/file.pem"), 2, &["ssl.ca.location", "option 'properties.*'"]),
        (wrong("SASL_SSL", "PLAINTEXT"), 1, &["no Kafka server answers", "'properties.security.protocol'"]),
        (
            wrong("'properties.sasl.username'", "'properties.sasl.user'"),
            2,
            &["no property 'sasl.user'", "did you mean"],
        ),
    ];
    for (options, code, parts) in &cases {
        check_told(&copy(&from, &to, options, &right), *code, parts);
        check_told(&copy(&from, &to, &right, options), *code, parts);
    }
    assert!(secure.broker.read_with(&to, "read_uncommitted").is_empty());
}

#[test]
fn rights_that_are_missing_are_told_with_the_option_that_names_what_they_are_of() {
    let Some(secure) = secure() else { return };
    let (from, to) = topics(&secure.broker);
    let (alice, bob) = (login(secure, "PLAIN", USERS[0]), login(secure, "PLAIN", USERS[1]));
    let markers = format!("markers-{to}");
    let (reads, writes) = (copy(&from, &to, &bob, &alice), copy(&from, &to, &alice, &bob));
    let allow = |of: Of, right: Right| secure.allow(USERS[1].0, of, right);
    check_told(&reads, 2, &["the topic may not be used", "option 'topic'"]);
    allow(Of::Topic(&from), Right::RD_KAFKA_ACL_OPERATION_DESCRIBE);
    check_told(&reads, 2, &[&format!("the topic '{from}' may not be read"), "option 'topic'", "READ"]);
    check_told(&writes, 2, &["the topic may not be used", "option 'topic'"]);
    allow(Of::Topic(&to), Right::RD_KAFKA_ACL_OPERATION_READ);
    check_told(&writes, 2, &[&format!("the topic '{to}' may not be written"), "option 'topic'", "WRITE"]);
    allow(Of::Topic(&to), Right::RD_KAFKA_ACL_OPERATION_WRITE);
    check_told(&writes, 2, &["transactions of this name may not be used", "option 'sink.transactional-id-prefix'"]);
    allow(Of::TransactionalIds("copy-"), Right::RD_KAFKA_ACL_OPERATION_ALL);
    check_told(&writes, 2, &["the topic may not be used", &markers, "option 'sink.marker-topic'"]);
    // Made by who may.
    secure.broker.create_topic_with(&markers, 1, &[("cleanup.policy", "compact")]);
    allow(Of::Topic(&markers), Right::RD_KAFKA_ACL_OPERATION_READ);
    check_told(&writes, 2, &[&format!("the topic '{markers}' may not be written"), "option 'sink.marker-topic'"]);
    assert!(secure.broker.read_with(&to, "read_uncommitted").is_empty());
    allow(Of::Topic(&markers), Right::RD_KAFKA_ACL_OPERATION_WRITE);
    stdout_of(&writes.run(&["--parallelism", "1"]));
    assert_eq!(secure.broker.read_committed(&to).len(), 3);
}

/// A certificate of nobody's, to trust instead of the right one.
const OTHER: &str = "-----BEGIN CERTIFICATE-----
MIIBeTCCAR+gAwIBAgIUbCuTDLtGZ01r9gsvJI3DHTi9r0MwCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGbm9ib2R5MCAXDTI2MTEyMjA1MTM1M1oYDzIxMjYxMDI5MDUx
MzUzWjARMQ8wDQYDVQQDDAZub2JvZHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AATH1E/XKEYqFybxLj4e0BjWTRPoxbp4ASKdS+Oc/5pBB38UdEMiRi6m2dTPjuf3
nLGciu7/VrIvYiywD5XUxWjfo1MwUTAdBgNVHQ4EFgQU4C3Ml9F6Yvu7WZp24ZzP
K0cFm/gwHwYDVR0jBBgwFoAU4C3Ml9F6Yvu7WZp24ZzPK0cFm/gwDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiBU6xktDmtj1erIanJeRjF+HyNErKwx
gFMmA2HVmiYGcgIhAP45bE4nsdaEldI7LzyXF4KuL8IKwxXUrCXLdYmrJIt9
-----END CERTIFICATE-----";

#[test]
fn options_of_the_sink_that_are_wrong_are_told_before_the_servers_are_asked() {
    let sink = |options: &str| {
        Script::new(&format!(
            "CREATE TABLE b (id BIGINT) WITH ('connector' = 'kafka', 'properties.bootstrap.servers' = '127.0.0.1:1',
               {options});
             INSERT INTO b SELECT 1;"
        ))
    };
    let usual = "'topic' = 'b', 'format' = 'json'";
    let refused = |options: &str, parts: &[&str]| check_told(&sink(options), 2, parts);
    refused("'format' = 'json'", &["needs the option 'topic'"]);
    refused("'topic' = 'b'", &["needs the option 'format'"]);
    refused("'topic' = 'b', 'format' = 'jsn'", &["no format 'jsn'", "did you mean 'json'?"]);
    refused("'topic' = 'b c', 'format' = 'json'", &["'b c' is no name of a topic", "option 'topic'"]);
    let several = "is written by its metadata column 'topic'";
    refused("'topic-pattern' = 'b.*', 'format' = 'json'", &[several, "option 'topic-pattern'", "STRING METADATA"]);
    refused("'topic' = 'b;c', 'format' = 'json'", &[several, "option 'topic'", "line 2"]);
    let more = |more: &str, parts: &[&str]| refused(&format!("{usual}, {more}"), parts);
    more("'sink.delivery-guarante' = 'exactly-once'", &["did you mean 'sink.delivery-guarantee'?"]);
    more("'sink.delivery-guarantee' = 'once'", &["'exactly-once'", "option 'sink.delivery-guarantee'"]);
    more("'sink.semantic' = 'exactly-once'", &["is called 'sink.delivery-guarantee' now"]);
    more("'sink.partitioner' = 'org.example.P'", &["no partitioner 'org.example.P'", "option 'sink.partitioner'"]);
    more("'sink.marker-topic' = 'm'", &["is for 'sink.delivery-guarantee' = 'exactly-once'"]);
    more("'sink.parallelism' = 'many'", &["option 'sink.parallelism'"]);
    more("'sink.parallelism' = '2'", &["'sink.parallelism' can't be honoured", "'run --parallelism N'"]);
    more("'scan.parallelism' = '2'", &["'scan.parallelism' can't be honoured", "option 'scan.parallelism'"]);
    let exactly =
        |options: &str, parts: &[&str]| more(&format!("'sink.delivery-guarantee' = 'exactly-once', {options}"), parts);
    exactly("'sink.marker-topic' = 'b'", &["markers need a topic of their own", "option 'sink.marker-topic'"]);
    exactly("'sink.lost-marker' = 'guess'", &["'replay'", "option 'sink.lost-marker'"]);
    exactly("'sink.transaction.max-bytes' = '0 b'", &["must be above 0", "option 'sink.transaction.max-bytes'"]);
    exactly("'sink.transactional-id-prefix' = ''", &["is empty", "option 'sink.transactional-id-prefix'"]);
    exactly("'properties.transactional.id' = 'x'", &["sink.transactional-id-prefix"]);
    exactly("'properties.acks' = 'some'", &["option 'properties.acks'"]);
}

#[test]
fn metadata_columns_that_can_not_be_written_are_told_with_their_place() {
    let sink = |column: &str, options: &str, value: &str| {
        Script::new(&format!(
            "CREATE TABLE b (id BIGINT, {column}) WITH ('properties.bootstrap.servers' = '127.0.0.1:1', {options});
             INSERT INTO b SELECT 1, {value};"
        ))
    };
    let usual = "'connector' = 'kafka', 'topic' = 'b', 'format' = 'json'";
    let several = usual.replace("'b'", "'b;c'");
    let place = "line 1, column 28";
    let refused = |column: &str, options: &str, parts: &[&str]| check_told(&sink(column, options, "NULL"), 2, parts);
    let only_read = "can't be written";
    refused("`offset` BIGINT METADATA", usual, &[only_read, "timestamp, headers", "declare it VIRTUAL", place]);
    refused("`topic` STRING METADATA", usual, &[only_read, "timestamp, headers", place]);
    refused("p INT METADATA FROM 'partition'", &several, &[only_read, "topic, timestamp, headers", place]);
    refused("x STRING METADATA FROM 'value.source'", usual, &[only_read, place]);
    let files = "'connector' = 'filesystem', 'path' = '/tmp/nowhere', 'format' = 'json'";
    refused("x STRING METADATA FROM 'file.path'", files, &[only_read, "no metadata", "declare it VIRTUAL", place]);
    let to = "`to` STRING METADATA FROM 'topic'";
    let registry = several.replace("'json'", "'avro-confluent', 'avro-confluent.url' = 'http://127.0.0.1:1'");
    refused(to, &registry, &["needs the option 'avro-confluent.subject'"]);
    let exactly = |more: &str| format!("{several}, 'sink.delivery-guarantee' = 'exactly-once', {more}");
    refused(to, &exactly("'sink.marker-topic' = 'c'"), &["markers need a topic of their own"]);
    let wrong = "h MAP<STRING, ARRAY<INT>> METADATA FROM 'headers'";
    refused(wrong, usual, &["write the metadata column 'h'", "line 2"]);
    let written =
        "ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp', o BIGINT METADATA FROM 'offset' VIRTUAL, up AS id + 1";
    let insert = |from: &str, to: &str, parts: &[&str]| {
        let script = sink(written, usual, "2");
        let text = std::fs::read_to_string(script.path("job.sql")).unwrap();
        std::fs::write(script.path("job.sql"), text.replace(from, to)).unwrap();
        check_told(&script, 2, parts);
    };
    insert("INTO b", "INTO b (id, o)", &["column 'o' can't be written", "VIRTUAL", "line 2, column 33"]);
    insert("INTO b", "INTO b (id, up)", &["column 'up' can't be written", "it is computed", "line 2, column 33"]);
    let late = "SET 'table.exec.late-rows.sink' = 'b'; INSERT INTO b (id) SELECT 1;";
    insert("INSERT INTO b SELECT 1, 2;", late, &["late rows have no metadata for the column 'ts'", place]);
    let value = |column: &str, value: &str, parts: &[&str]| check_told(&sink(column, usual, value), 2, parts);
    value("h MAP<STRING, BYTES> METADATA FROM 'headers'", "'a'", &["incompatible types for sink column 'h'"]);
    value(written, "NULL, 2", &["different number of columns", "the sink takes 2"]);
}

#[test]
fn a_server_or_a_topic_that_is_not_there_is_told_before_anything_is_read() {
    let Some(secure) = secure() else { return };
    let broker = &secure.broker;
    let (from, to) = topics(broker);
    let (here, nowhere) = (
        format!("'properties.bootstrap.servers' = '{}'", broker.servers()),
        "'properties.bootstrap.servers' = '127.0.0.1:1'".to_string(),
    );
    let away = ["no Kafka server answers at 127.0.0.1:1", "option 'properties.bootstrap.servers'"];
    check_told(&copy(&from, &to, &here, &nowhere), 1, &away);
    let near = format!("did you mean '{to}'?");
    check_told(&copy(&from, &format!("{to}x"), &here, &here), 2, &["there is no topic", &near, "option 'topic'"]);
    let long = format!("{here}, 'properties.transaction.timeout.ms' = '2000000'");
    let parts = ["allow no transactions that may be open for so long", "option 'properties.transaction.timeout.ms'"];
    check_told(&copy(&from, &to, &here, &long), 2, &parts);
    assert!(broker.read_with(&to, "read_uncommitted").is_empty());
}
