SET 'table.local-time-zone' = 'Asia/Kolkata';
CREATE TABLE z (id INT, ms BIGINT, s STRING) WITH ('connector' = 'filesystem', 'path' = '${DIR}/z.json', 'format' = 'json');
SELECT id, TO_TIMESTAMP_LTZ(ms, 3) > CAST(s AS TIMESTAMP(3)) AS g, TIMESTAMPDIFF(HOUR, TO_TIMESTAMP_LTZ(ms, 3), CAST(CAST(s AS TIMESTAMP(3)) AS TIMESTAMP_LTZ(3))) AS d, CAST(s AS TIMESTAMP_LTZ(3)) AS c, JSON_STRING(TO_TIMESTAMP_LTZ(ms, 3)) AS j, DAYOFWEEK(TO_TIMESTAMP_LTZ(ms, 3)) AS w, CEIL(TO_TIMESTAMP_LTZ(ms, 3) TO HOUR) AS ch FROM z;
