-- name: S1-result (fast)
SELECT number FROM result WHERE number < 0;
