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

CREATE TABLE orders2 (
  order_id BIGINT,
  user_id INT,
  product STRING,
  price DECIMAL(10, 2),
  qty INT,
  status STRING,
  ts TIMESTAMP(3)
) WITH (
  'connector' = 'filesystem',
  'path' = '${DIR}/orders2.json',
  'format' = 'json'
);

SELECT user_id, status FROM orders INTERSECT ALL SELECT user_id, status FROM orders2;
