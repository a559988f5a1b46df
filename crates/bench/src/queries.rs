//! The Nexmark queries that run so far, with the suite's tables.

/// Their names. Of q6 a parenthesis stands where it is meant; as the suite has it, it is no query.
pub const NAMES: &str = "q0 to q23, cep0 to cep3 (those of patterns), hop (q5's windows), top (q7's), pass, tumble";

/// A line of the table that q13 looks rows up in, by its key.
pub fn side_input(key: u64) -> String {
    format!("{key},value-{key}\n")
}

/// How many lines that table has.
pub const SIDE_INPUTS: u64 = 10_000;

const COLUMNS: &str = "event_type INT,
  person ROW<id BIGINT, name STRING, emailAddress STRING, creditCard STRING, city STRING, state STRING,
    `dateTime` TIMESTAMP(3), extra STRING>,
  auction ROW<id BIGINT, itemName STRING, description STRING, initialBid BIGINT, reserve BIGINT,
    `dateTime` TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra STRING>,
  bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, `dateTime` TIMESTAMP(3), extra STRING>";

const TIME: &str = "`dateTime` AS CASE WHEN event_type = 0 THEN person.`dateTime`
    WHEN event_type = 1 THEN auction.`dateTime` ELSE bid.`dateTime` END,
  WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND";

const VIEWS: &str = "CREATE VIEW person AS SELECT person.id, person.name, person.emailAddress, person.creditCard,
  person.city, person.state, `dateTime`, person.extra FROM events WHERE event_type = 0;
CREATE VIEW auction AS SELECT auction.id, auction.itemName, auction.description, auction.initialBid, auction.reserve,
  `dateTime`, auction.expires, auction.seller, auction.category, auction.extra FROM events WHERE event_type = 1;
CREATE VIEW bid AS SELECT bid.auction, bid.bidder, bid.price, bid.channel, bid.url, `dateTime`, bid.extra
  FROM events WHERE event_type = 2;";

/// The events from the generator.
pub fn generator(events: u64) -> String {
    format!(
        "CREATE TABLE events ({COLUMNS},\n  {TIME})\nWITH ('connector' = 'nexmark', 'events.num' = '{events}');\n{VIEWS}"
    )
}

/// The events from JSON files.
pub fn json(folder: &str) -> String {
    format!(
        "CREATE TABLE events ({COLUMNS},\n  {TIME})\nWITH ('connector' = 'filesystem', 'path' = '{folder}', 'format' = 'json');\n{VIEWS}"
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

/// The columns of q15 and q16 that count: with a type, as a sink's columns, else as they are computed.
fn ranks(data_type: &str) -> String {
    let filters = [
        ("total", ""),
        ("rank1", " FILTER (WHERE price < 10000)"),
        ("rank2", " FILTER (WHERE price >= 10000 AND price < 1000000)"),
        ("rank3", " FILTER (WHERE price >= 1000000)"),
    ];
    let mut columns = vec![];
    for (what, counted) in [("bids", "*"), ("bidders", "DISTINCT bidder"), ("auctions", "DISTINCT auction")] {
        for (name, filter) in filters {
            columns.push(match data_type {
                "" => format!("COUNT({counted}){filter}"),
                _ => format!("{name}_{what} {data_type}"),
            });
        }
    }
    columns.join(", ")
}

/// The bids that a pattern is searched in, and what the sink takes.
fn pattern(columns: &str, names: &str, clauses: &str) -> String {
    sink(
        &format!("auction BIGINT, bidder BIGINT, {columns}"),
        &format!(
            "SELECT auction, bidder, {names}\nFROM bid\nMATCH_RECOGNIZE (\n  PARTITION BY auction, bidder\n  ORDER BY `dateTime`\n{clauses}\n)"
        ),
    )
}

/// Longest time for which the average price of a bidder's bids was low.
fn low_average(skip: &str) -> String {
    let clauses = format!(
        "  MEASURES FIRST(A.`dateTime`) AS start_tstamp, LAST(A.`dateTime`) AS end_tstamp, AVG(A.price) AS avg_price
  ONE ROW PER MATCH AFTER MATCH SKIP {skip} PATTERN (A+ B) DEFINE A AS AVG(A.price) < 10000"
    );
    let columns = "start_tstamp TIMESTAMP(3), end_tstamp TIMESTAMP(3), avg_price BIGINT";
    pattern(columns, "start_tstamp, end_tstamp, avg_price", &clauses)
}

/// The query as a script's end, into a sink that drops its rows; `${DIR}` in it stands for a folder.
pub fn nexmark(query: &str) -> Option<String> {
    let bids = "auction BIGINT, bidder BIGINT, price BIGINT, `dateTime` TIMESTAMP(3), extra STRING";
    Some(match query {
        "q0" => sink(bids, "SELECT auction, bidder, price, `dateTime`, extra FROM bid"),
        "q1" => sink(
            "auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), `dateTime` TIMESTAMP(3), extra STRING",
            "SELECT auction, bidder, 0.908 * price, `dateTime`, extra FROM bid",
        ),
        "q2" => sink("auction BIGINT, price BIGINT", "SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0"),
        "q3" => sink(
            "name STRING, city STRING, state STRING, id BIGINT",
            "SELECT P.name, P.city, P.state, A.id FROM auction AS A INNER JOIN person AS P ON A.seller = P.id
WHERE A.category = 10 AND (P.state = 'OR' OR P.state = 'ID' OR P.state = 'CA')",
        ),
        "q4" => sink(
            "id BIGINT, final BIGINT",
            "SELECT Q.category, AVG(Q.final) FROM (
  SELECT MAX(B.price) AS final, A.category FROM auction A, bid B
  WHERE A.id = B.auction AND B.`dateTime` BETWEEN A.`dateTime` AND A.expires GROUP BY A.id, A.category
) Q GROUP BY Q.category",
        ),
        "q5" => sink(
            "auction BIGINT, num BIGINT",
            "SELECT AuctionBids.auction, AuctionBids.num FROM (
  SELECT auction, COUNT(*) AS num, window_start AS starttime, window_end AS endtime
  FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
  GROUP BY auction, window_start, window_end
) AS AuctionBids JOIN (
  SELECT MAX(CountBids.num) AS maxn, CountBids.starttime, CountBids.endtime FROM (
    SELECT COUNT(*) AS num, window_start AS starttime, window_end AS endtime
    FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
    GROUP BY auction, window_start, window_end
  ) AS CountBids GROUP BY CountBids.starttime, CountBids.endtime
) AS MaxBids
ON AuctionBids.starttime = MaxBids.starttime AND AuctionBids.endtime = MaxBids.endtime AND AuctionBids.num >= MaxBids.maxn",
        ),
        "q7" => sink(
            bids,
            "SELECT B.auction, B.bidder, B.price, B.`dateTime`, B.extra FROM bid B JOIN (
  SELECT MAX(price) AS maxprice, window_end AS `dateTime`
  FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND)) GROUP BY window_start, window_end
) B1 ON B.price = B1.maxprice WHERE B.`dateTime` BETWEEN B1.`dateTime` - INTERVAL '10' SECOND AND B1.`dateTime`",
        ),
        "q8" => sink(
            "id BIGINT, name STRING, stime TIMESTAMP(3)",
            "SELECT P.id, P.name, P.starttime FROM (
  SELECT id, name, window_start AS starttime, window_end AS endtime
  FROM TABLE(TUMBLE(TABLE person, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
  GROUP BY id, name, window_start, window_end
) P JOIN (
  SELECT seller, window_start AS starttime, window_end AS endtime
  FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
  GROUP BY seller, window_start, window_end
) A ON P.id = A.seller AND P.starttime = A.starttime AND P.endtime = A.endtime",
        ),
        "q6" => sink(
            "seller BIGINT, avg_price BIGINT",
            "SELECT Q.seller, AVG(Q.price) OVER
  (PARTITION BY Q.seller ORDER BY Q.`dateTime` ROWS BETWEEN 10 PRECEDING AND CURRENT ROW)
FROM (
  SELECT * FROM (
    SELECT *, ROW_NUMBER() OVER (PARTITION BY id, seller ORDER BY price DESC) AS rownum
    FROM (SELECT A.id, A.seller, B.price, B.`dateTime` FROM auction AS A, bid AS B
      WHERE A.id = B.auction AND B.`dateTime` BETWEEN A.`dateTime` AND A.expires))
  WHERE rownum <= 1
) AS Q",
        ),
        "q9" => sink(
            "id BIGINT, itemName STRING, description STRING, initialBid BIGINT, reserve BIGINT, `dateTime` TIMESTAMP(3), \
             expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra STRING, auction BIGINT, bidder BIGINT, price BIGINT, \
             bid_dateTime TIMESTAMP(3), bid_extra STRING",
            "SELECT id, itemName, description, initialBid, reserve, `dateTime`, expires, seller, category, extra,
  auction, bidder, price, bid_dateTime, bid_extra
FROM (
  SELECT A.*, B.auction, B.bidder, B.price, B.`dateTime` AS bid_dateTime, B.extra AS bid_extra,
    ROW_NUMBER() OVER (PARTITION BY A.id ORDER BY B.price DESC, B.`dateTime` ASC) AS rownum
  FROM auction A, bid B
  WHERE A.id = B.auction AND B.`dateTime` BETWEEN A.`dateTime` AND A.expires
)
WHERE rownum <= 1",
        ),
        "q10" => "CREATE TABLE partitioned (auction BIGINT, bidder BIGINT, price BIGINT, `dateTime` TIMESTAMP(3), extra STRING, dt STRING, hm STRING)
PARTITIONED BY (dt, hm) WITH ('connector' = 'filesystem', 'path' = '${DIR}/q10', 'format' = 'csv',
  'sink.partition-commit.trigger' = 'partition-time', 'sink.partition-commit.delay' = '1 min',
  'sink.partition-commit.policy.kind' = 'success-file', 'partition.time-extractor.timestamp-pattern' = '$dt $hm:00',
  'sink.rolling-policy.rollover-interval' = '1min', 'sink.rolling-policy.check-interval' = '1min');
INSERT INTO partitioned
SELECT auction, bidder, price, `dateTime`, extra, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd'), DATE_FORMAT(`dateTime`, 'HH:mm')
FROM bid;"
            .to_string(),
        "q13" => format!(
            "CREATE TABLE side_input (key BIGINT, `value` STRING)
WITH ('connector' = 'filesystem', 'path' = '${{DIR}}/side_input.txt', 'format' = 'csv');
{}",
            sink(
                "auction BIGINT, bidder BIGINT, price BIGINT, `dateTime` TIMESTAMP(3), `value` STRING",
                "SELECT B.auction, B.bidder, B.price, B.`dateTime`, S.`value`
FROM (SELECT *, PROCTIME() as p_time FROM bid) B
JOIN side_input FOR SYSTEM_TIME AS OF B.p_time AS S
ON mod(B.auction, 10000) = S.key",
            )
        ),
        "q18" => sink(
            "auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, `dateTime` TIMESTAMP(3), extra STRING",
            "SELECT auction, bidder, price, channel, url, `dateTime`, extra
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY bidder, auction ORDER BY `dateTime` DESC) AS rank_number FROM bid)
WHERE rank_number <= 1",
        ),
        "q19" => sink(
            "auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, `dateTime` TIMESTAMP(3), extra STRING, \
             rank_number BIGINT",
            "SELECT * FROM
(SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC) AS rank_number FROM bid)
WHERE rank_number <= 10",
        ),
        "cep0" => pattern(
            "start_tstamp TIMESTAMP(3), bottom_tstamp TIMESTAMP(3), end_tstamp TIMESTAMP(3)",
            "start_tstamp, bottom_tstamp, end_tstamp",
            "  MEASURES START_ROW.`dateTime` AS start_tstamp, LAST(PRICE_DOWN.`dateTime`) AS bottom_tstamp,
    LAST(PRICE_UP.`dateTime`) AS end_tstamp
  ONE ROW PER MATCH AFTER MATCH SKIP TO LAST PRICE_UP PATTERN (START_ROW PRICE_DOWN+ PRICE_UP)
  DEFINE
    PRICE_DOWN AS (LAST(PRICE_DOWN.price, 1) IS NULL AND PRICE_DOWN.price < START_ROW.price) OR
      PRICE_DOWN.price < LAST(PRICE_DOWN.price, 1),
    PRICE_UP AS PRICE_UP.price > LAST(PRICE_DOWN.price, 1)",
        ),
        "cep1" => low_average("PAST LAST ROW"),
        "cep2" => low_average("TO NEXT ROW"),
        "cep3" => pattern(
            "drop_time TIMESTAMP(3), drop_diff BIGINT",
            "drop_time, drop_diff",
            "  MEASURES C.`dateTime` AS drop_time, A.price - C.price AS drop_diff
  ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW PATTERN (A B* C) WITHIN INTERVAL '5' SECOND
  DEFINE B AS B.price > A.price - 50, C AS C.price < A.price - 50",
        ),
        "q15" => sink(
            &format!("`day` STRING, {}", ranks("BIGINT")),
            &format!("SELECT DATE_FORMAT(`dateTime`, 'yyyy-MM-dd'), {} FROM bid GROUP BY DATE_FORMAT(`dateTime`, 'yyyy-MM-dd')", ranks("")),
        ),
        "q16" => sink(
            &format!("channel STRING, `day` STRING, `minute` STRING, {}", ranks("BIGINT")),
            &format!(
                "SELECT channel, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd'), MAX(DATE_FORMAT(`dateTime`, 'HH:mm')), {}
FROM bid GROUP BY channel, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd')",
                ranks("")
            ),
        ),
        "q17" => sink(
            "auction BIGINT, `day` STRING, total_bids BIGINT, rank1_bids BIGINT, rank2_bids BIGINT, rank3_bids BIGINT, \
             min_price BIGINT, max_price BIGINT, avg_price BIGINT, sum_price BIGINT",
            "SELECT auction, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd'), COUNT(*), COUNT(*) FILTER (WHERE price < 10000),
  COUNT(*) FILTER (WHERE price >= 10000 AND price < 1000000), COUNT(*) FILTER (WHERE price >= 1000000),
  MIN(price), MAX(price), AVG(price), SUM(price)
FROM bid GROUP BY auction, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd')",
        ),
        "q20" => sink(
            "auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, bid_dateTime TIMESTAMP(3), \
             bid_extra STRING, itemName STRING, description STRING, initialBid BIGINT, reserve BIGINT, \
             auction_dateTime TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, auction_extra STRING",
            "SELECT auction, bidder, price, channel, url, B.`dateTime` AS bid_dateTime, B.extra AS bid_extra,
  itemName, description, initialBid, reserve, A.`dateTime` AS auction_dateTime, expires, seller, category, A.extra
FROM bid AS B INNER JOIN auction AS A ON B.auction = A.id WHERE A.category = 10",
        ),
        "q23" => sink(
            "bidder BIGINT, price BIGINT, channel STRING, url STRING, bid_extra STRING, person_id BIGINT, name STRING, \
             emailAddress STRING, creditCard STRING, city STRING, state STRING, person_extra STRING, itemName STRING, \
             description STRING, initialBid BIGINT, reserve BIGINT, auction_dateTime TIMESTAMP(3), expires TIMESTAMP(3), \
             seller BIGINT, category BIGINT, auction_extra STRING",
            "SELECT bidder, price, channel, url, B.extra AS bid_extra, P.id AS person_id, name, emailAddress, creditCard, city,
  state, P.extra AS person_extra, itemName, description, initialBid, reserve, A.`dateTime`, expires, seller, category, A.extra
FROM bid B JOIN person P ON P.id = B.bidder JOIN auction A ON A.seller = B.bidder",
        ),
        "hop" => sink(
            "auction BIGINT, num BIGINT, starttime TIMESTAMP(3), endtime TIMESTAMP(3)",
            "SELECT auction, COUNT(*), window_start, window_end
FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
GROUP BY auction, window_start, window_end",
        ),
        "top" => sink(
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
