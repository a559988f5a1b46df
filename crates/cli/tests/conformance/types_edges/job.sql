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

SELECT -9223372036854775808 AS a, -2147483648 AS b, - 2147483648 AS c FROM users WHERE id = 7;
