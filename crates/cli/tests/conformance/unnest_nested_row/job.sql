CREATE TABLE j (id INT, items ARRAY<ROW<sku STRING, q INT>>, tags MAP<STRING, INT>, ms MULTISET<STRING>) WITH ('connector' = 'filesystem', 'path' = '${DIR}/j.json', 'format' = 'json');
SELECT id, sku, q FROM j CROSS JOIN UNNEST(items) AS t (sku, q);
