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

SELECT status, JSON_ARRAYAGG(JSON_OBJECT('q' VALUE qty)) AS j, JSON_OBJECTAGG(KEY CAST(order_id AS STRING) VALUE JSON_ARRAY(qty, product)) AS o FROM orders WHERE order_id < 1012 GROUP BY status;
