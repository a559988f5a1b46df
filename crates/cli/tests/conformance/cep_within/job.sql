CREATE TABLE tick (
  id INT,
  sym STRING,
  price INT,
  vol INT,
  ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${DIR}/tick.json',
  'format' = 'json'
);

SELECT * FROM tick MATCH_RECOGNIZE (PARTITION BY sym ORDER BY ts MEASURES A.id AS a, B.id AS b ONE ROW PER MATCH AFTER MATCH SKIP TO NEXT ROW PATTERN (A B* C) WITHIN INTERVAL '20' SECOND DEFINE A AS A.vol > 7, B AS B.vol <= 7, C AS C.vol > 7) AS m;
