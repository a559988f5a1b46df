CREATE TABLE c (a INT, b STRING, d DOUBLE) WITH ('connector' = 'filesystem', 'path' = '${DIR}/c.csv', 'format' = 'csv', 'csv.field-delimiter' = ';', 'csv.quote-character' = '''', 'csv.allow-comments' = 'true', 'csv.null-literal' = '-');
SELECT a, b, d FROM c;
