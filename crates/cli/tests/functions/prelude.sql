CREATE TEMPORARY VIEW t AS SELECT * FROM (VALUES (1, 'a', 1, CAST(1.5 AS DOUBLE), 'x'), (2, 'a', 2, CAST(2.5 AS DOUBLE), 'y'), (3, 'b', 2, CAST(NULL AS DOUBLE), 'x'), (4, 'b', CAST(NULL AS INT), CAST(4.0 AS DOUBLE), CAST(NULL AS STRING))) AS v(id, k, n, x, s);
CREATE TEMPORARY VIEW o AS SELECT * FROM (VALUES ('Apple', 2), ('Banana', 17), ('Orange', 0), ('Pear', CAST(NULL AS INT))) AS v(product, cnt);
CREATE TEMPORARY VIEW r AS SELECT * FROM (VALUES (1, ROW('x', 7)), (2, ROW('y', 8))) AS v(id, p);
CREATE TEMPORARY TABLE e (id INT, k STRING, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector' = 'filesystem', 'path' = '${DIR}/e.csv', 'format' = 'csv');
