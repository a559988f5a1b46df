CREATE TABLE j (a INT, b BIGINT, c DECIMAL(10, 3), d DOUBLE, e BOOLEAN, f STRING, g DATE, h TIME, i TIMESTAMP(3), k BYTES, l ARRAY<INT>, m MAP<STRING, INT>, n ROW<x INT, y STRING>, o TIMESTAMP_LTZ(3)) WITH ('connector' = 'filesystem', 'path' = '${DIR}/j.json', 'format' = 'json');
SELECT * FROM j;
