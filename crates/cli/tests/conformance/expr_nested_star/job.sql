CREATE TABLE j (id INT, r ROW<a INT, b STRING>) WITH ('connector' = 'filesystem', 'path' = '${DIR}/j.json', 'format' = 'json');
SELECT id, j.r.* FROM j;
