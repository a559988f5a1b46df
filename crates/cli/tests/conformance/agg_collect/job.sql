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

SELECT status, COLLECT(product) AS c, COLLECT(DISTINCT product) AS d, ARRAY_AGG(qty) AS a, ARRAY_AGG(DISTINCT user_id) AS ad FROM orders GROUP BY status;
