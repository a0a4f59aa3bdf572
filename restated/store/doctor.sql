-- Invariants of the stored rows, one named query each; a query returns the rows that break it.
-- Not marked "(fast)": reads whole tables, for `restated doctor` and the simulator.
-- The names are those of the invariants: K keys, B life cycle, T timers, P promises, S structure.

-- name: K1-lock-without-holder (fast)
SELECT l.scope, l.service, l.key, l.holder, i.status FROM lock AS l
LEFT JOIN invocation AS i ON i.number = l.holder
WHERE i.number IS NULL OR i.status NOT IN ('invoked', 'suspended', 'paused')
   OR i.handler_type <> 'exclusive' OR i.service <> l.service OR i.object_key IS NOT l.key;

-- name: K1-holder-without-lock (fast)
SELECT i.number, i.id, i.status FROM invocation AS i
LEFT JOIN lock AS l ON l.scope = i.scope AND l.service = i.service AND l.key = i.object_key
WHERE i.status IN ('invoked', 'suspended', 'paused') AND i.status <> 'completed'
  AND i.handler_type = 'exclusive' AND l.holder IS NOT i.number;

-- name: K2-inbox-without-lock (fast)
SELECT b.scope, b.service, b.key, b.sequence FROM inbox AS b
LEFT JOIN lock AS l ON l.scope = b.scope AND l.service = b.service AND l.key = b.key
WHERE l.holder IS NULL;

-- name: K2-inbox-item-without-invocation (fast)
SELECT b.scope, b.service, b.key, b.sequence, b.number FROM inbox AS b
LEFT JOIN invocation AS i ON i.number = b.number
WHERE (b.number IS NULL) = (b.patch IS NULL)
   OR b.number IS NOT NULL AND (i.status IS NOT 'inboxed' OR i.inbox_sequence IS NOT b.sequence);

-- name: K2-inboxed-without-inbox-item (fast)
SELECT i.number, i.id FROM invocation AS i
LEFT JOIN inbox AS b ON b.scope = i.scope AND b.service = i.service AND b.key = i.object_key
  AND b.sequence = i.inbox_sequence
WHERE i.status = 'inboxed' AND i.status <> 'completed' AND b.number IS NOT i.number;

-- name: B1-unknown-word
SELECT number, status, service_type, handler_type, source FROM invocation
WHERE status NOT IN ('scheduled', 'inboxed', 'invoked', 'suspended', 'paused', 'completed')
   OR service_type NOT IN ('service', 'virtual_object', 'workflow')
   OR handler_type NOT IN ('exclusive', 'shared', 'workflow')
   OR source NOT IN ('ingress', 'service', 'subscription', 'restart_as_new');

-- name: B1-completed-without-time
SELECT number, id, completed_at_ms FROM invocation
WHERE (status = 'completed') <> (completed_at_ms IS NOT NULL);

-- name: B4-journal-has-gaps
SELECT i.number, i.id, i.journal_length, count(j.position) AS stored FROM invocation AS i
LEFT JOIN journal AS j ON j.position >= i.number << 24 AND j.position <= i.number << 24 | 16777215
WHERE i.status <> 'completed'
GROUP BY i.number
HAVING stored <> i.journal_length
    OR stored > 0 AND max(j.position) <> (i.number << 24 | i.journal_length - 1);

-- name: B4-completion-beyond-journal
SELECT c.number, c.completion_id, c.command_index, c.entry_index FROM completion AS c
JOIN invocation AS i ON i.number = c.number
WHERE i.status <> 'completed' AND (c.command_index >= i.journal_length
   OR c.entry_index >= i.journal_length OR c.entry_index <= c.command_index
   OR (c.entry_index IS NULL) <> (c.polarity IS NULL));

-- name: B4-signal-beyond-journal
SELECT s.number, s.name, s.entry_index FROM signal AS s
JOIN invocation AS i ON i.number = s.number
WHERE i.status <> 'completed' AND s.entry_index >= i.journal_length;

-- name: B7-suspended-without-await (fast)
SELECT number, id FROM invocation
WHERE status = 'suspended' AND status <> 'completed' AND awaiting_on IS NULL;

-- name: B7-invoked-without-attempt (fast)
SELECT number, id FROM invocation
WHERE status = 'invoked' AND status <> 'completed' AND attempt < 1;

-- name: B8-scheduled-without-timer (fast)
SELECT i.number, i.id FROM invocation AS i
WHERE i.status = 'scheduled' AND i.status <> 'completed' AND NOT EXISTS
  (SELECT 1 FROM timer AS t WHERE t.number = i.number AND t.kind = 'start');

-- name: B11-pinned-deployment-is-gone (fast)
SELECT i.number, i.id, i.deployment_id FROM invocation AS i
LEFT JOIN deployment AS d ON d.id = i.deployment_id
WHERE i.status IN ('invoked', 'suspended', 'paused') AND i.status <> 'completed'
  AND i.deployment_id IS NOT NULL AND d.id IS NULL;

-- name: B11-revision-without-number (fast)
SELECT name, revision, deployment_id FROM service_revision
WHERE revision < 1 OR length(definition) = 0;

-- name: B11-deployment-is-malformed (fast)
SELECT id, uri FROM deployment
WHERE transport NOT IN ('http1', 'http2', 'lambda') OR protocol_version_min > protocol_version_max
   OR NOT json_valid(CAST(headers AS TEXT));

-- name: T3-timer-of-nobody
SELECT t.number, t.kind, t.token, t.at_ms FROM timer AS t
LEFT JOIN invocation AS i ON i.number = t.number
WHERE t.kind <> 'continue' AND (i.number IS NULL OR i.status = 'completed');

-- name: T3-sleep-without-timer
SELECT c.number, c.completion_id FROM completion AS c
JOIN invocation AS i ON i.number = c.number AND i.status <> 'completed'
LEFT JOIN timer AS t ON t.number = c.number AND t.kind = 'sleep' AND t.token = c.completion_id
WHERE c.kind = 'sleep' AND c.entry_index IS NULL AND t.number IS NULL;

-- name: P3-waiter-of-a-settled-promise
SELECT w.scope, w.service, w.key, w.name, w.caller FROM promise_waiter AS w
JOIN promise AS p USING (scope, service, key, name);

-- name: P1-promise-with-two-outcomes
SELECT scope, service, key, name FROM promise WHERE (value IS NULL) = (failure IS NULL);

-- name: S1-result-of-nobody
SELECT r.number FROM result AS r LEFT JOIN invocation AS i ON i.number = r.number
WHERE i.status IS NOT 'completed' OR (r.value IS NULL) = (r.failure_code IS NULL);

-- name: S1-journal-of-nobody
SELECT j.position >> 24 AS number, count(*) AS entries FROM journal AS j
LEFT JOIN invocation AS i ON i.number = j.position >> 24
WHERE i.number IS NULL AND NOT EXISTS
  (SELECT 1 FROM timer AS t WHERE t.number = j.position >> 24 AND t.kind = 'continue')
GROUP BY j.position >> 24;

-- name: S1-journal-event-of-nobody
SELECT e.position >> 24 AS number, count(*) AS events FROM journal_event AS e
LEFT JOIN invocation AS i ON i.number = e.position >> 24
WHERE i.number IS NULL AND NOT EXISTS
  (SELECT 1 FROM timer AS t WHERE t.number = e.position >> 24 AND t.kind = 'continue')
GROUP BY e.position >> 24;

-- name: S1-completion-of-nobody
SELECT c.number, c.completion_id FROM completion AS c
LEFT JOIN invocation AS i ON i.number = c.number
WHERE i.number IS NULL AND NOT EXISTS
  (SELECT 1 FROM timer AS t WHERE t.number = c.number AND t.kind = 'continue');

-- name: S1-signal-of-nobody
SELECT s.number, s.name FROM signal AS s LEFT JOIN invocation AS i ON i.number = s.number
WHERE i.number IS NULL AND NOT EXISTS
  (SELECT 1 FROM timer AS t WHERE t.number = s.number AND t.kind = 'continue');

-- name: S1-waiter-for-nobody
SELECT w.number, w.caller, w.completion_id FROM waiter AS w
LEFT JOIN invocation AS i ON i.number = w.number
WHERE i.number IS NULL OR i.status = 'completed';

-- name: S1-state-without-key
SELECT scope, service, key, name FROM state WHERE service = '' OR name IS NULL;

-- name: S3-counter-out-of-range (fast)
SELECT name, value FROM counter WHERE value < 0;

-- name: S3-number-beyond-counter (fast)
SELECT name, value, (SELECT max(number) FROM invocation) AS newest FROM counter
WHERE name = 'invocation' AND value < newest;

-- name: S2-outbox-without-driver
SELECT o.sequence FROM outbox AS o
WHERE NOT EXISTS (SELECT 1 FROM timer AS t WHERE t.number = 0 AND t.kind = 'continue');

-- name: S4-cluster-is-malformed (fast)
SELECT name FROM kafka_cluster WHERE name = '' OR NOT json_valid(CAST(properties AS TEXT))
   OR json_type(CAST(properties AS TEXT)) <> 'object';

-- name: S4-subscription-is-malformed (fast)
SELECT id, cluster, service, handler FROM subscription
WHERE id NOT LIKE 'sub\_1%' ESCAPE '\' OR cluster = '' OR service = '' OR handler = ''
   OR NOT json_valid(CAST(options AS TEXT)) OR json_type(CAST(options AS TEXT)) <> 'object';

-- name: S5-rule-is-malformed (fast)
SELECT pattern, version, disabled, concurrency FROM limit_rule
WHERE pattern = '' OR version < 1 OR disabled NOT IN (0, 1) OR concurrency < 1;

-- name: S5-rule-beyond-its-book (fast)
SELECT pattern, version, (SELECT value FROM counter WHERE name = 'limit_rules') AS book
FROM limit_rule WHERE version > ifnull((SELECT value FROM counter WHERE name = 'limit_rules'), 0);
