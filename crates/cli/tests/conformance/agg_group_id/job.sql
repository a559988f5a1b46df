CREATE TABLE orders (
  order_id BIGINT,
  user_id INT,
  product STRING,
  price DECIMAL(10, 2),
  qty INT,
  status STRING,
  ts TIMESTAMP(3)
) WITH (
  'connector' = 'filesystem',
  'path' = '${DIR}/orders.json',
  'format' = 'json'
);

SELECT status, COUNT(*) AS c, GROUP_ID() AS g FROM orders GROUP BY GROUPING SETS ((status), ());
