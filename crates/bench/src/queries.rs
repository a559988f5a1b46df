//! The Nexmark queries that run so far, with the suite's tables.

/// Their names.
pub const NAMES: &str =
    "q0, q1, q2, q5 (its hopping windows), q7 (its tumbling windows), q11, q12, q14, q21, q22, pass, tumble";

const COLUMNS: &str = "event_type INT,
  person ROW<id BIGINT, name STRING, emailAddress STRING, creditCard STRING, city STRING, state STRING,
    `dateTime` TIMESTAMP(3), extra STRING>,
  auction ROW<id BIGINT, itemName STRING, description STRING, initialBid BIGINT, reserve BIGINT,
    `dateTime` TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra STRING>,
  bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, `dateTime` TIMESTAMP(3), extra STRING>";

const TIME: &str = "`dateTime` AS CASE WHEN event_type = 0 THEN person.`dateTime`
    WHEN event_type = 1 THEN auction.`dateTime` ELSE bid.`dateTime` END,
  WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND";

const VIEW: &str = "CREATE VIEW bid AS SELECT bid.auction AS auction, bid.bidder AS bidder, bid.price AS price,
  bid.channel AS channel, bid.url AS url, `dateTime`, bid.extra AS extra FROM events WHERE event_type = 2;";

/// The events from the generator.
pub fn generator(events: u64) -> String {
    format!(
        "CREATE TABLE events ({COLUMNS},\n  {TIME})\nWITH ('connector' = 'nexmark', 'events.num' = '{events}');\n{VIEW}"
    )
}

/// The events from JSON files.
pub fn json(folder: &str) -> String {
    format!(
        "CREATE TABLE events ({COLUMNS},\n  {TIME})\nWITH ('connector' = 'filesystem', 'path' = '{folder}', 'format' = 'json');\n{VIEW}"
    )
}

/// A script that writes the generator's events as JSON files.
pub fn write_json(events: u64, folder: &str) -> String {
    format!(
        "CREATE TABLE events ({COLUMNS}) WITH ('connector' = 'nexmark', 'events.num' = '{events}');
CREATE TABLE files ({COLUMNS}) WITH ('connector' = 'filesystem', 'path' = '{folder}', 'format' = 'json');
SET 'execution.checkpointing.interval' = '0';
INSERT INTO files SELECT * FROM events;"
    )
}

fn sink(columns: &str, select: &str) -> String {
    format!("CREATE TABLE discard ({columns}) WITH ('connector' = 'blackhole');\nINSERT INTO discard\n{select};")
}

/// The query as a script's end, into a sink that drops its rows.
pub fn nexmark(query: &str) -> Option<String> {
    let bids = "auction BIGINT, bidder BIGINT, price BIGINT, `dateTime` TIMESTAMP(3), extra STRING";
    Some(match query {
        "q0" => sink(bids, "SELECT auction, bidder, price, `dateTime`, extra FROM bid"),
        "q1" => sink(
            "auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), `dateTime` TIMESTAMP(3), extra STRING",
            "SELECT auction, bidder, 0.908 * price, `dateTime`, extra FROM bid",
        ),
        "q2" => sink("auction BIGINT, price BIGINT", "SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0"),
        "q5" => sink(
            "auction BIGINT, num BIGINT, starttime TIMESTAMP(3), endtime TIMESTAMP(3)",
            "SELECT auction, COUNT(*), window_start, window_end
FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
GROUP BY auction, window_start, window_end",
        ),
        "q7" => sink(
            "maxprice BIGINT, `dateTime` TIMESTAMP(3)",
            "SELECT MAX(price), window_end
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
GROUP BY window_start, window_end",
        ),
        "q11" => sink(
            "bidder BIGINT, bid_count BIGINT, starttime TIMESTAMP(3), endtime TIMESTAMP(3)",
            "SELECT bidder, COUNT(*), SESSION_START(`dateTime`, INTERVAL '10' SECOND), SESSION_END(`dateTime`, INTERVAL '10' SECOND)
FROM bid GROUP BY bidder, SESSION(`dateTime`, INTERVAL '10' SECOND)",
        ),
        "q12" => sink(
            "bidder BIGINT, bid_count BIGINT, starttime TIMESTAMP(3), endtime TIMESTAMP(3)",
            "SELECT bidder, COUNT(*), window_start, window_end
FROM TABLE(TUMBLE((SELECT bidder, PROCTIME() AS p_time FROM bid), DESCRIPTOR(p_time), INTERVAL '10' SECOND))
GROUP BY bidder, window_start, window_end",
        ),
        "q14" => sink(
            "auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), bidTimeType STRING, `dateTime` TIMESTAMP(3), extra STRING",
            "SELECT auction, bidder, 0.908 * price,
  CASE WHEN HOUR(`dateTime`) >= 8 AND HOUR(`dateTime`) <= 18 THEN 'dayTime'
       WHEN HOUR(`dateTime`) <= 6 OR HOUR(`dateTime`) >= 20 THEN 'nightTime' ELSE 'otherTime' END,
  `dateTime`, extra
FROM bid WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000",
        ),
        "q21" => sink(
            "auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, channel_id STRING",
            "SELECT auction, bidder, price, channel,
  CASE WHEN LOWER(channel) = 'apple' THEN '0' WHEN LOWER(channel) = 'google' THEN '1'
       WHEN LOWER(channel) = 'facebook' THEN '2' WHEN LOWER(channel) = 'baidu' THEN '3'
       ELSE REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2) END
FROM bid
WHERE REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2) IS NOT NULL
  OR LOWER(channel) IN ('apple', 'google', 'facebook', 'baidu')",
        ),
        "q22" => sink(
            "auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, dir1 STRING, dir2 STRING, dir3 STRING",
            "SELECT auction, bidder, price, channel, SPLIT_INDEX(url, '/', 3), SPLIT_INDEX(url, '/', 4), SPLIT_INDEX(url, '/', 5) FROM bid",
        ),
        "pass" => sink("auction BIGINT, price BIGINT", "SELECT auction, price FROM bid"),
        "tumble" => sink(
            "auction BIGINT, bids BIGINT, top BIGINT, ended TIMESTAMP(3)",
            "SELECT auction, COUNT(*), MAX(price), window_end
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
GROUP BY auction, window_start, window_end",
        ),
        _ => return None,
    })
}
