SET 'table.local-time-zone' = 'America/New_York';
CREATE TABLE z (id INT, ms BIGINT, tz AS TO_TIMESTAMP_LTZ(ms, 3), WATERMARK FOR tz AS tz - INTERVAL '1' SECOND) WITH ('connector' = 'filesystem', 'path' = '${DIR}/z.json', 'format' = 'json');
SELECT window_start, window_end, window_time, COUNT(*) AS c FROM TABLE(TUMBLE(TABLE z, DESCRIPTOR(tz), INTERVAL '1' DAY)) GROUP BY window_start, window_end, window_time;
