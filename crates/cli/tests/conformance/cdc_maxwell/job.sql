CREATE TABLE j (id INT, v STRING) WITH ('connector' = 'filesystem', 'path' = '${DIR}/j.json', 'format' = 'maxwell-json');
SELECT * FROM j;
