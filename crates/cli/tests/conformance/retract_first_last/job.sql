CREATE TABLE acc (
  id INT,
  grp STRING,
  amount INT,
  price DECIMAL(10, 2),
  score DOUBLE
) WITH (
  'connector' = 'filesystem',
  'path' = '${DIR}/acc.json',
  'format' = 'debezium-json'
);

SELECT grp, FIRST_VALUE(amount) AS f, LAST_VALUE(amount) AS l FROM acc GROUP BY grp;
