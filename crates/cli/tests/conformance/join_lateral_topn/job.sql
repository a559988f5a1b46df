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

CREATE TABLE users (
  id INT,
  name STRING,
  city STRING,
  level INT
) WITH (
  'connector' = 'filesystem',
  'path' = '${DIR}/users.json',
  'format' = 'json'
);

SELECT u.id, t.order_id, t.price FROM users u, LATERAL (SELECT order_id, price FROM orders o WHERE o.user_id = u.id ORDER BY price DESC LIMIT 2) t;
