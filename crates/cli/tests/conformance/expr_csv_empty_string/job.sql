CREATE TABLE c (a INT, b STRING, t TIME, ts TIMESTAMP(3), bo BOOLEAN, de DECIMAL(6, 2)) WITH ('connector' = 'filesystem', 'path' = '${DIR}/c.csv', 'format' = 'csv');
SELECT * FROM c;
