CREATE TABLE j (id INT, items ARRAY<ROW<sku STRING, q INT>>) WITH ('connector' = 'filesystem', 'path' = '${DIR}/j.json', 'format' = 'json');
SELECT id, sku, q FROM j LEFT JOIN UNNEST(items) AS t (sku, q) ON TRUE;
