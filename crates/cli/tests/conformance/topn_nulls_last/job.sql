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

SELECT order_id, qty, rn FROM (SELECT order_id, qty, ROW_NUMBER() OVER (PARTITION BY status ORDER BY qty DESC NULLS FIRST, order_id) AS rn FROM orders) WHERE rn <= 3;
