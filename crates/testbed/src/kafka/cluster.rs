//! A cluster of three servers: each partition has a leader and two followers, and one of the three may be away.

use super::{Broker, free_ports, jars, wait_for};
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::time::Duration;

/// Topics have three replicas, of which two have to have a record before it is confirmed; who is away is noticed soon.
const SETTINGS: [(&str, &str); 9] = [
    ("default.replication.factor", "3"),
    ("min.insync.replicas", "2"),
    ("offsets.topic.replication.factor", "3"),
    ("transaction.state.log.replication.factor", "3"),
    ("transaction.state.log.min.isr", "2"),
    ("controlled.shutdown.enable", "true"),
    ("broker.heartbeat.interval.ms", "300"),
    ("broker.session.timeout.ms", "1500"),
    ("replica.lag.time.max.ms", "3000"),
];

/// Three servers, each of which is a controller, too.
pub struct Cluster {
    nodes: Vec<Broker>,
}

impl Cluster {
    /// An empty one; `None`, and a word about it, if no server is installed.
    pub fn start() -> Option<Cluster> {
        let jars = jars()?;
        let ports: [u16; 6] = free_ports();
        let ports: Vec<(u16, u16)> = ports.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        let voter = |(n, (_, controller)): (usize, &(u16, u16))| format!("{}@127.0.0.1:{controller}", n + 1);
        let voters = ports.iter().enumerate().map(voter).collect::<Vec<_>>().join(",");
        let bootstrap = ports.iter().map(|(port, _)| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
        let node = |(n, ports): (usize, &(u16, u16))| {
            let number = (n + 1).to_string();
            let own = [("node.id", number.as_str()), ("controller.quorum.voters", voters.as_str())];
            let settings: Vec<(&str, &str)> = SETTINGS.iter().chain(&own).copied().collect();
            let mut node = Broker::formatted(&jars, *ports, &settings, &[]);
            node.bootstrap = bootstrap.clone();
            // None is ready before most of them run.
            node.spawn();
            node
        };
        let mut cluster = Cluster { nodes: ports.iter().enumerate().map(node).collect() };
        cluster.nodes.iter_mut().for_each(Broker::wait_until_ready);
        Some(cluster)
    }

    /// One of its servers, by which all of them can be asked, whichever of them run.
    pub fn any(&self) -> &Broker {
        &self.nodes[0]
    }

    /// The server that leads a partition now, and its number.
    pub fn leader(&mut self, topic: &str, partition: usize) -> (i32, &mut Broker) {
        let leader = wait_for("a leader", || self.led_by(topic, partition));
        (leader, self.node(leader))
    }

    /// The server of a number.
    pub fn node(&mut self, number: i32) -> &mut Broker {
        &mut self.nodes[number as usize - 1]
    }

    /// Waits until another one than the server of this number leads a partition.
    pub fn wait_until_led_by_another(&self, topic: &str, partition: usize, number: i32) {
        wait_for("another leader", || self.led_by(topic, partition).filter(|leader| *leader != number));
    }

    fn led_by(&self, topic: &str, partition: usize) -> Option<i32> {
        self.replicas(topic).get(partition).map(|(leader, _)| *leader).filter(|leader| *leader > 0)
    }

    /// Waits until nobody lags behind in a topic.
    pub fn wait_until_in_sync(&self, topic: &str) {
        wait_for(&format!("three replicas of {topic}"), || {
            let all = self.replicas(topic);
            (!all.is_empty() && all.iter().all(|(_, in_sync)| *in_sync == 3)).then_some(())
        });
    }

    /// By partition of a topic: its leader's number, and how many replicas have all of it; empty while nobody answers.
    fn replicas(&self, topic: &str) -> Vec<(i32, usize)> {
        let consumer: BaseConsumer = self.any().client().create().unwrap();
        let Ok(metadata) = consumer.fetch_metadata(Some(topic), Duration::from_secs(2)) else { return Vec::new() };
        let Some(topic) = metadata.topics().first() else { return Vec::new() };
        let mut all: Vec<_> = topic.partitions().iter().map(|p| (p.id(), (p.leader(), p.isr().len()))).collect();
        all.sort();
        all.into_iter().map(|(_, replica)| replica).collect()
    }
}
