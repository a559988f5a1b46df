//! A server for another program, which says by lines of text what is to be done with its topics.

use super::load;
use millstream_testbed::kafka::Broker;
use serde_json::{Value, json};
use std::io::{BufRead, Write};

/// Answers orders until there are no more.
pub fn serve(broker: &Broker) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    let mut say = |answer: &Value| writeln!(out, "{answer}").and_then(|()| out.flush()).map_err(|e| e.to_string());
    say(&json!({ "servers": broker.servers() }))?;
    for order in std::io::stdin().lock().lines() {
        let order = order.map_err(|e| e.to_string())?;
        let words: Vec<&str> = order.split_whitespace().collect();
        let answer = carry_out(broker, &words).map_err(|e| format!("{order}: {e}"))?;
        say(&answer)?;
    }
    Ok(())
}

fn carry_out(broker: &Broker, order: &[&str]) -> Result<Value, String> {
    match order {
        ["fill", topic, partitions, events] => {
            let bytes = load::fill(broker, topic, number(partitions)?, number(events)?)?;
            Ok(json!({ "bytes": bytes }))
        }
        ["create", topic, partitions] => {
            broker.create_topic(topic, number(partitions)?);
            Ok(json!({}))
        }
        ["consume", topic] => {
            let read = load::consume(broker, topic)?;
            Ok(json!({ "records": read.records, "bytes": read.bytes, "wall_s": read.wall_s, "cpu_s": read.cpu_s }))
        }
        ["digest", topic] => {
            let digest = load::digest(broker, topic)?;
            Ok(json!({ "records": digest.records, "digest": digest.text() }))
        }
        ["delete", topic] => {
            broker.delete_topic(topic);
            Ok(json!({}))
        }
        _ => Err("there is no such order".into()),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("'{text}' is no number"))
}
