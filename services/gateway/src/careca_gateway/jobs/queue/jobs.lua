-- The operations of the job queue. Each one is atomic. ARGV[1] is the name of the operation, the rest its arguments.
--
-- KEYS[1] is the prefix careca:{jobs} of all keys. The braces keep all keys on one cluster node. Which keys an operation
-- uses is known only here. The name of a submitter or a job is the last part of a key, so that keys cannot collide.
--
--   PREFIX:job:ID                    hash    about (JSON that never changes), spec, state, stages and attempts (JSON),
--                                            fence, losses, told (segments reported), start, end, entry (in its
--                                            queue), asked (when it was retried), result_key, caller (the call
--                                            that waits for it), ...
--   PREFIX:state:STATE               zset    ids, all with score 0: their alphabetical order is the order of time
--   PREFIX:of:STATE:SUBMITTER        zset    the submitter's ids, in the same way
--   PREFIX:ended                     zset    ids by the time of their end, in milliseconds
--   PREFIX:requests:SUBMITTER        hash    request id to id
--   PREFIX:queue:PRIORITY:SUBMITTER  stream  unread entries wait; entries that were read and not acknowledged run,
--   PREFIX:back:PRIORITY:SUBMITTER   zset    or are among these, which were taken once and wait again, at their old position
--   PREFIX:waiting                   hash    PRIORITY:SUBMITTER to the number of waiting jobs
--   PREFIX:turns:PRIORITY            zset    submitters with waiting jobs, by the number of their next turn
--   PREFIX:since                     zset    ids by the time since when they wait, in milliseconds
--   PREFIX:leases                    hash    id to FENCE:RENEWALS
--   PREFIX:events:ID                 stream  finished segments; an entry's id is the segment's number
--   PREFIX:revisions:ID              list    revisions of the transcript, oldest first (JSON with number, time, key, ...)
--   PREFIX:recordings                hash    SHA-256 to the number of its jobs that have not ended
--   PREFIX:notices                   zset    ids by the time when their webhook is due, in milliseconds
--   PREFIX:counters                  hash    time and number of the newest id, and the last turn
--   PREFIX:voices:SUBMITTER          hash    saved voices: see voices.lua
--   PREFIX:news                      channel q: a job waits; an id: that job has changed
--
-- The time of the Redis server is stored, but never decides who holds a job.
--
-- If memory is full, Redis refuses the first write of a script, and never a later one: no operation is done in part.
-- Operations that need memory (submit, retry, add_revision) begin with a write that needs memory. All others begin with a write that
-- needs none, and Redis lets them pass.

local prefix = KEYS[1]
local group = 'gateways'
local counters, leases, recordings = prefix .. ':counters', prefix .. ':leases', prefix .. ':recordings'
local waiting, since, ended, notices = prefix .. ':waiting', prefix .. ':since', prefix .. ':ended', prefix .. ':notices'
local most_attempts, most_events, events_seconds = 20, 20000, 600
local priorities = {'interactive', 'batch'}
local states = {'queued', 'running', 'succeeded', 'failed', 'cancelled'}
local end_states = {'succeeded', 'failed', 'cancelled'}
local fields = {'about', 'state', 'stages', 'attempts', 'start', 'end', 'partial', 'error_reason', 'error_message',
  'hook_state', 'hook_attempts', 'hook_error'}

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function key_of(id) return prefix .. ':job:' .. id end
local function events_of(id) return prefix .. ':events:' .. id end
local function revisions_of(id) return prefix .. ':revisions:' .. id end
local function in_state(state) return prefix .. ':state:' .. state end
local function of(state, submitter) return prefix .. ':of:' .. state .. ':' .. submitter end
local function turns_of(priority) return prefix .. ':turns:' .. priority end
local function queue_of(job) return prefix .. ':queue:' .. job.priority .. ':' .. job.submitter end
local function back_of(job) return prefix .. ':back:' .. job.priority .. ':' .. job.submitter end
local function line_of(job) return job.priority .. ':' .. job.submitter end
local function publish(subject) redis.call('PUBLISH', prefix .. ':news', subject) end

-- A write that needs no memory and changes nothing. Redis accepts the writes after it even if memory is full.
local function begin_without_memory()
  redis.call('DEL', prefix .. ':nothing')
end

-- The constant fields of a job, with its id and state; nil if there is no such job.
local function load(id)
  local values = redis.call('HMGET', key_of(id), 'about', 'state')
  if not values[1] then return nil end
  local job = cjson.decode(values[1])
  job.id, job.state = id, values[2]
  return job
end

-- The id and `fields` of a job; nil if there is no such job.
local function record(id)
  local values = redis.call('HMGET', key_of(id), unpack(fields))
  if not values[1] then return nil end
  table.insert(values, 1, id)
  return values
end

local function records(ids)
  local found = {}
  for _, id in ipairs(ids) do table.insert(found, record(id)) end
  return found
end

local function move(job, state)
  if job.state then
    redis.call('ZREM', in_state(job.state), job.id)
    redis.call('ZREM', of(job.state, job.submitter), job.id)
  end
  if state then
    redis.call('ZADD', in_state(state), 0, job.id)
    redis.call('ZADD', of(state, job.submitter), 0, job.id)
    redis.call('HSET', key_of(job.id), 'state', state)
  end
  job.state = state
end

-- Returns an id that is greater than all ids before it, even if the clock is set back.
local function new_id(salt)
  local newest = redis.call('HMGET', counters, 'ms', 'number')
  local ms, number = now, 0
  if newest[1] and tonumber(newest[1]) >= now then
    ms, number = tonumber(newest[1]), newest[2] + 1
    if number > 0xffff then ms, number = ms + 1, 0 end
  end
  redis.call('HSET', counters, 'ms', ms, 'number', number)
  return string.format('%012x%04x', ms, number) .. salt
end

local function count_recording(job, by)
  if redis.call('HINCRBY', recordings, job.sha256, by) <= 0 then redis.call('HDEL', recordings, job.sha256) end
end

-- The number of waiting jobs with that priority, of all submitters.
local function waiting_with(priority)
  local lines, total = redis.call('HGETALL', waiting), 0
  for position = 1, #lines, 2 do
    if string.match(lines[position], '^%a+') == priority then total = total + lines[position + 1] end
  end
  return total
end

-- The limit that another job like this would exceed, if any. Batch jobs do not count against interactive jobs.
local function full(job, most, most_of_submitter)
  local own = 0
  for _, priority in ipairs(job.priority == 'interactive' and {'interactive'} or priorities) do
    own = own + (redis.call('HGET', waiting, priority .. ':' .. job.submitter) or 0)
  end
  if own >= tonumber(most_of_submitter) then return 'submitter' end
  if redis.call('ZCARD', in_state('queued')) < tonumber(most) then return nil end
  if job.priority ~= 'interactive' or waiting_with('interactive') >= tonumber(most) then return 'all' end
end

-- Attempts: {number, worker, start, end or 0, outcome, message}

local function attempts_of(id)
  return cjson.decode(redis.call('HGET', key_of(id), 'attempts'))
end

local function begin_attempt(id, worker)
  local attempts = attempts_of(id)
  local number = #attempts > 0 and attempts[#attempts][1] + 1 or 1
  table.insert(attempts, {number, worker, now, 0, '', ''})
  while #attempts > most_attempts do table.remove(attempts, 1) end
  redis.call('HSET', key_of(id), 'attempts', cjson.encode(attempts))
end

local function end_attempt(id, outcome, message)
  local attempts = attempts_of(id)
  local last = attempts[#attempts]
  last[4], last[5], last[6] = now, outcome, message
  redis.call('HSET', key_of(id), 'attempts', cjson.encode(attempts))
end

local function last_worker(id)
  local attempts = attempts_of(id)
  return #attempts > 0 and attempts[#attempts][2]
end

-- Stages: {stage, state, progress, seconds, cached, attempts, error reason, error message}. Calls `change` for each stage
-- that has not succeeded.
local function change_stages(id, change)
  local stages = cjson.decode(redis.call('HGET', key_of(id), 'stages'))
  if #stages == 0 then return end -- cjson would encode an empty list as an object
  for _, stage in ipairs(stages) do
    if stage[2] ~= 'succeeded' then change(stage) end
  end
  redis.call('HSET', key_of(id), 'stages', cjson.encode(stages))
end

-- Waiting

-- Makes a job wait: at the end of its submitter's queue or, with `again`, at its old position.
local function enqueue(job, again)
  if again then
    redis.call('ZADD', back_of(job), 0, job.id)
  else
    local queue = queue_of(job)
    if redis.call('EXISTS', queue) == 0 then redis.call('XGROUP', 'CREATE', queue, group, '0', 'MKSTREAM') end
    redis.call('HSET', key_of(job.id), 'entry', redis.call('XADD', queue, '*', 'job', job.id))
  end
  move(job, 'queued')
  redis.call('ZADD', since, now, job.id)
  redis.call('HINCRBY', waiting, line_of(job), 1)
  if not redis.call('ZSCORE', turns_of(job.priority), job.submitter) then
    redis.call('ZADD', turns_of(job.priority), redis.call('HINCRBY', counters, 'turn', 1), job.submitter)
  end
  publish('q')
  publish(job.id)
end

-- Ends the waiting of a job. If it was its submitter's `turn`, the submitter's next turn comes after all others.
local function stop_waiting(job, turn)
  redis.call('ZREM', since, job.id)
  redis.call('ZREM', back_of(job), job.id)
  if redis.call('HINCRBY', waiting, line_of(job), -1) <= 0 then
    redis.call('HDEL', waiting, line_of(job))
    redis.call('ZREM', turns_of(job.priority), job.submitter)
  elseif turn then
    redis.call('ZADD', turns_of(job.priority), redis.call('HINCRBY', counters, 'turn', 1), job.submitter)
  end
end

-- Removes a consumer that holds nothing. Otherwise every process that ever took a job would stay in the group.
local function remove_idle_consumer(queue, worker)
  if #redis.call('XPENDING', queue, group, '-', '+', 1, worker) == 0 then
    redis.call('XGROUP', 'DELCONSUMER', queue, group, worker)
  end
end

-- Removes the job's entry from its queue, and the queue if it is empty then.
local function leave_queue(job)
  local queue, entry = queue_of(job), redis.call('HGET', key_of(job.id), 'entry')
  redis.call('XACK', queue, group, entry)
  redis.call('XDEL', queue, entry)
  redis.call('HDEL', key_of(job.id), 'entry')
  if redis.call('XLEN', queue) == 0 then return redis.call('DEL', queue) end
  local worker = last_worker(job.id)
  if worker then remove_idle_consumer(queue, worker) end
end

-- Takes the submitter's next job for the worker. Returns its id.
local function next_of(line, worker)
  local queue, back = queue_of(line), back_of(line)
  local id = redis.call('ZRANGE', back, 0, 0)[1]
  if not id then
    local read = redis.call('XREADGROUP', 'GROUP', group, worker, 'COUNT', 1, 'STREAMS', queue, '>')
    return read[1][2][1][2][2]
  end
  redis.call('XCLAIM', queue, group, worker, 0, redis.call('HGET', key_of(id), 'entry'), 'JUSTID')
  remove_idle_consumer(queue, last_worker(id))
  return id
end

-- Leases and ends

local function held(id, fence)
  local lease = redis.call('HGET', leases, id)
  return lease and string.match(lease, '^%d+') == fence
end

-- Adds the segments in ARGV from `first` to `last`. There are `told` segments before them (nil: all so far). Segments
-- that were added already, by a call whose reply was lost, are skipped.
local function add_segments(id, told, first, last)
  local before = tonumber(redis.call('HGET', key_of(id), 'told') or 0)
  told = told or before
  local number = before
  for position = first, last do
    if told + position - first + 1 > before then
      number = told + position - first + 1
      redis.call('XADD', events_of(id), 'MAXLEN', '~', most_events, string.format('%d-0', number), 's', ARGV[position])
    end
  end
  if number > before then redis.call('HSET', key_of(id), 'told', number) end
end

local function finish(job, state)
  if job.state == 'queued' then stop_waiting(job, false) end
  leave_queue(job)
  redis.call('HDEL', leases, job.id)
  move(job, state)
  count_recording(job, -1)
  redis.call('HSET', key_of(job.id), 'end', now)
  redis.call('ZADD', ended, now, job.id)
  redis.call('EXPIRE', events_of(job.id), events_seconds)
  if job.webhook_url then redis.call('ZADD', notices, now, job.id) end
  publish(job.id)
end

local function cancel(job)
  redis.call('HINCRBY', key_of(job.id), 'fence', 1)
  if job.state == 'running' then end_attempt(job.id, 'CANCELLED', '') end
  change_stages(job.id, function(stage) stage[2] = 'skipped' end)
  finish(job, 'cancelled')
end

-- Ends a job without a result. It has started at least once, or its time is over.
local function fail(job, reason, message, error)
  change_stages(job.id, function(stage)
    if stage[2] == 'running' then stage[2], stage[7], stage[8] = 'failed', reason, message end
    if stage[2] == 'waiting' then stage[2] = 'skipped' end
  end)
  redis.call('HSET', key_of(job.id), 'error_reason', reason, 'error_message', message, 'error', error)
  finish(job, 'failed')
end

local function forget(job)
  if job.state == 'queued' or job.state == 'running' then cancel(job) end
  move(job, nil)
  redis.call('ZREM', ended, job.id)
  redis.call('ZREM', notices, job.id)
  redis.call('HDEL', prefix .. ':requests:' .. job.submitter, job.request_id)
  redis.call('UNLINK', key_of(job.id), events_of(job.id), revisions_of(job.id))
  publish(job.id)
end

local function forget_all(ids)
  for _, id in ipairs(ids) do forget(load(id)) end
  return ids
end

-- At most `most` ids from all these zsets, from `first` down to `last`.
local function merged(keys, first, last, most)
  local ids = {}
  for _, key in ipairs(keys) do
    for _, id in ipairs(redis.call('ZREVRANGEBYLEX', key, first, last, 'LIMIT', 0, most)) do table.insert(ids, id) end
  end
  table.sort(ids, function(one, other) return one > other end)
  while #ids > tonumber(most) do table.remove(ids) end
  return ids
end

local operations = {}

-- Sets the call that waits for the job: '' for none.
local function set_caller(id, caller)
  if caller == '' then redis.call('HDEL', key_of(id), 'caller') else redis.call('HSET', key_of(id), 'caller', caller) end
end

-- Returns {'ok', record} with the new job or the one with this request id, {'reused'} if that one has other content,
-- {'full', 'all' or 'submitter'} if a limit is exceeded. With a worker and a new job, also what `take` returns.
function operations.submit(salt, about, spec, stages, most, most_of_submitter, caller, worker)
  local job = cjson.decode(about)
  local requests = prefix .. ':requests:' .. job.submitter
  local known = redis.call('HGET', requests, job.request_id)
  if known then
    if load(known).fingerprint ~= job.fingerprint then return {'reused'} end
    if caller ~= '' then set_caller(known, caller) end
    return {'ok', record(known)}
  end
  local limit = full(job, most, most_of_submitter)
  if limit then return {'full', limit} end
  job.id = new_id(salt)
  redis.call('HSET', key_of(job.id), 'about', about, 'spec', spec, 'stages', stages, 'attempts', '[]', 'fence', 0)
  set_caller(job.id, caller)
  redis.call('HSET', requests, job.request_id, job.id)
  count_recording(job, 1)
  enqueue(job, false)
  local taken = worker ~= '' and operations.take(worker, '1') or nil
  return {'ok', record(job.id), taken}
end

-- Returns the job's record, or nothing.
function operations.get(id)
  return record(id)
end

-- Returns {key of the job's result, or ''}; nothing if there is no such job.
function operations.result_key(id)
  if redis.call('EXISTS', key_of(id)) == 0 then return nil end
  return {redis.call('HGET', key_of(id), 'result_key') or ''}
end

-- Returns {spec of the job}; nothing if there is no such job.
function operations.spec(id)
  local spec = redis.call('HGET', key_of(id), 'spec')
  return spec and {spec} or nil
end

-- Returns {key of the job's result, or '', revisions, oldest first}; nothing if there is no such job.
function operations.revisions(id)
  local result = operations.result_key(id)
  return result and {result[1], redis.call('LRANGE', revisions_of(id), 0, -1)}
end

-- Adds a revision if `base` is the number of the newest one (0: none) and the job's result is the one at `result_key`. At
-- most `most` are kept. Returns {revision, removed revisions...}; {''} if the base is not the newest; nothing if there is
-- no such job.
function operations.add_revision(id, result_key, base, revision, most)
  if redis.call('EXISTS', key_of(id)) == 0 then return nil end
  local newest = redis.call('LINDEX', revisions_of(id), -1)
  local number = newest and cjson.decode(newest).number or 0
  if number ~= tonumber(base) or redis.call('HGET', key_of(id), 'result_key') ~= result_key then return {''} end
  local added = cjson.decode(revision)
  added.number, added.ms = number + 1, now
  local reply = {cjson.encode(added)}
  local length = redis.call('RPUSH', revisions_of(id), reply[1])
  while length > tonumber(most) do
    table.insert(reply, redis.call('LPOP', revisions_of(id)))
    length = length - 1
  end
  return reply
end

-- Returns {complete error or '', reason, message} of a job that failed; nothing if there is no such job.
function operations.error(id)
  if redis.call('EXISTS', key_of(id)) == 0 then return nil end
  local values = redis.call('HMGET', key_of(id), 'error', 'error_reason', 'error_message')
  return {values[1] or '', values[2] or '', values[3] or ''}
end

-- Returns at most `most` records of the submitter's jobs, or of all jobs with '', from `first` down to `last`, that are
-- in one of these states.
function operations.list(submitter, first, last, most, ...)
  local keys = {}
  for _, state in ipairs({...}) do
    table.insert(keys, submitter == '' and in_state(state) or of(state, submitter))
  end
  return records(merged(keys, first, last, most))
end

-- Takes the next job. Returns {record, spec, fence, segments reported, milliseconds left, caller}, or nothing.
function operations.take(worker, interactive_only)
  for _, priority in ipairs(interactive_only == '1' and {'interactive'} or priorities) do
    local submitter = redis.call('ZRANGE', turns_of(priority), 0, 0)[1]
    if submitter then
      begin_without_memory()
      local job = load(next_of({priority = priority, submitter = submitter}, worker))
      stop_waiting(job, true)
      move(job, 'running')
      begin_attempt(job.id, worker)
      local fence = redis.call('HINCRBY', key_of(job.id), 'fence', 1)
      redis.call('HSET', key_of(job.id), 'start', now)
      redis.call('HSET', leases, job.id, fence .. ':0')
      publish(job.id)
      local spec, told, asked, caller = unpack(redis.call('HMGET', key_of(job.id), 'spec', 'told', 'asked', 'caller'))
      asked = asked or tonumber(string.sub(job.id, 1, 12), 16)
      local limited = job.limit_ms and (caller or not job.called) -- the time limit of a call ends with the call
      local left = limited and math.max(0, job.limit_ms - (now - asked)) or false
      return {record(job.id), spec, fence, told or 0, left, caller or ''}
    end
  end
end

-- Returns 1 if a job waits, else 0.
function operations.waits(interactive_only)
  for _, priority in ipairs(interactive_only == '1' and {'interactive'} or priorities) do
    if redis.call('EXISTS', turns_of(priority)) == 1 then return 1 end
  end
  return 0
end

-- Takes any number of {id, fence, stages or '', number of segments before, number of segments, segments...}. Returns the
-- ids of jobs whose lease is lost.
function operations.renew()
  begin_without_memory()
  local lost, position = {}, 2
  while position <= #ARGV do
    local id, fence, stages = ARGV[position], ARGV[position + 1], ARGV[position + 2]
    local told, segments = tonumber(ARGV[position + 3]), ARGV[position + 4]
    local first, last = position + 5, position + 4 + segments
    if held(id, fence) then
      local renewals = string.match(redis.call('HGET', leases, id), '%d+$') + 1
      redis.call('HSET', leases, id, string.format('%s:%d', fence, renewals))
      if stages ~= '' then redis.call('HSET', key_of(id), 'stages', stages) end
      add_segments(id, told, first, last)
      if stages ~= '' or segments ~= '0' then publish(id) end
    else
      table.insert(lost, id)
    end
    position = last + 1
  end
  return lost
end

-- Ends a job. Segments are the arguments from the twelfth on. Returns 1, or 0 if the lease is lost.
function operations.finish(id, fence, state, stages, result_key, partial, reason, message, error, told)
  if not held(id, fence) then
    local values = redis.call('HMGET', key_of(id), 'fence', 'end')
    return values[1] == fence and values[2] and 1 or 0
  end
  begin_without_memory()
  add_segments(id, tonumber(told), 12, #ARGV)
  redis.call('HSET', key_of(id), 'stages', stages)
  if result_key ~= '' then redis.call('HSET', key_of(id), 'result_key', result_key) end
  if partial == '1' then redis.call('HSET', key_of(id), 'partial', 1) end
  if reason ~= '' then
    redis.call('HSET', key_of(id), 'error_reason', reason, 'error_message', message, 'error', error)
  end
  end_attempt(id, state == 'succeeded' and 'SUCCEEDED' or reason, message)
  finish(load(id), state)
  return 1
end

-- Queues a job again. Returns 1, or 0 if the lease is lost.
function operations.hand_back(id, fence, stages, reason, message)
  if not held(id, fence) then return 0 end
  begin_without_memory()
  redis.call('HDEL', leases, id)
  redis.call('HSET', key_of(id), 'stages', stages)
  end_attempt(id, reason, message)
  enqueue(load(id), true)
  return 1
end

-- Returns ids and leases in turn.
function operations.leases()
  return redis.call('HGETALL', leases)
end

-- Takes a job from its worker if its lease is unchanged. Returns its record, or nothing.
function operations.reclaim(id, lease, most_losses, reason, message)
  if redis.call('HGET', leases, id) ~= lease then return nil end
  begin_without_memory()
  redis.call('HDEL', leases, id)
  redis.call('HINCRBY', key_of(id), 'fence', 1)
  end_attempt(id, 'WORKER_LOST', '')
  if redis.call('HINCRBY', key_of(id), 'losses', 1) < tonumber(most_losses) then
    change_stages(id, function(stage)
      if stage[2] == 'running' then stage[2], stage[3] = 'waiting', 0 end
    end)
    enqueue(load(id), true)
  else
    fail(load(id), reason, message, '')
  end
  return record(id)
end

-- Ends a job. With a caller, only if that call still waits for it. With a reason, it fails. Returns its record, or nothing.
function operations.cancel(id, caller, reason, message, error)
  local job = load(id)
  if not job or (job.state ~= 'queued' and job.state ~= 'running') then return record(id) end
  if caller ~= '' and redis.call('HGET', key_of(id), 'caller') ~= caller then return record(id) end
  begin_without_memory()
  if reason == '' then
    cancel(job)
  else
    redis.call('HINCRBY', key_of(id), 'fence', 1)
    if job.state == 'running' then end_attempt(id, reason, message) end
    fail(job, reason, message, error)
  end
  return record(id)
end

-- Returns {'ok', record}, {'whole'} if there is nothing to retry, {'corrected'} if the transcript has revisions,
-- {'full', ...} as submit does, or nothing.
function operations.retry(id, stages, most, most_of_submitter, caller)
  local job = load(id)
  if not job then return nil end
  local partial = redis.call('HGET', key_of(id), 'partial')
  if job.state == 'queued' or job.state == 'running' or (job.state == 'succeeded' and not partial) then
    return {'whole'}
  end
  if redis.call('EXISTS', revisions_of(id)) == 1 then return {'corrected'} end
  local limit = full(job, most, most_of_submitter)
  if limit then return {'full', limit} end
  redis.call('HSET', key_of(id), 'stages', stages, 'asked', now)
  set_caller(id, caller)
  redis.call('HDEL', key_of(id), 'end', 'losses', 'partial', 'result_key', 'error_reason', 'error_message', 'error',
    'hook_state', 'hook_attempts', 'hook_error')
  redis.call('ZREM', ended, id)
  redis.call('ZREM', notices, id)
  redis.call('PERSIST', events_of(id))
  count_recording(job, 1)
  enqueue(job, false)
  return {'ok', record(id)}
end

-- Returns 1, or 0 if there is no such job.
function operations.delete(id)
  local job = load(id)
  if not job then return 0 end
  begin_without_memory()
  forget(job)
  return 1
end

-- Removes at most `most` jobs that have ended. Returns their ids.
function operations.clear(submitter, most)
  local keys = {}
  for _, state in ipairs(end_states) do
    table.insert(keys, submitter == '' and in_state(state) or of(state, submitter))
  end
  return forget_all(merged(keys, '+', '-', most))
end

-- Removes at most `most` jobs that ended `age` milliseconds ago or earlier. Returns their ids.
function operations.expire(age, most)
  return forget_all(redis.call('ZRANGEBYSCORE', ended, '-inf', now - age, 'LIMIT', 0, most))
end

-- Returns {record, segments after that number as entries of a stream}, or nothing.
function operations.watch(id, after, most)
  local job = record(id)
  if not job then return nil end
  return {job, redis.call('XRANGE', events_of(id), '(' .. after .. '-0', '+', 'COUNT', most)}
end

-- Returns the ids of jobs that exist.
function operations.exist()
  local found = {}
  for position = 2, #ARGV do
    if redis.call('EXISTS', key_of(ARGV[position])) == 1 then table.insert(found, ARGV[position]) end
  end
  return found
end

-- Returns the SHA-256 of the recordings of jobs that have not ended.
function operations.recordings()
  return redis.call('HKEYS', recordings)
end

-- Returns records of jobs whose webhooks are due. No other gateway gets them for `lease` milliseconds.
function operations.due_webhooks(most, lease)
  local ids = redis.call('ZRANGEBYSCORE', notices, '-inf', now, 'LIMIT', 0, most)
  if #ids > 0 then begin_without_memory() end
  for _, id in ipairs(ids) do redis.call('ZADD', notices, now + lease, id) end
  return records(ids)
end

-- Records an attempt to call the webhook for the job's end at that time. `delay`: milliseconds until the next attempt, or
-- '' for none.
function operations.webhook_attempted(id, at, state, message, delay)
  if redis.call('HGET', key_of(id), 'end') ~= at or not redis.call('ZSCORE', notices, id) then return end
  begin_without_memory()
  redis.call('HSET', key_of(id), 'hook_state', state, 'hook_error', message)
  redis.call('HINCRBY', key_of(id), 'hook_attempts', 1)
  if delay == '' then redis.call('ZREM', notices, id) else redis.call('ZADD', notices, now + delay, id) end
  publish(id)
end

-- Returns {jobs by state, waiting jobs by priority, milliseconds that the oldest has waited, pending webhooks}, the first
-- two as names and numbers in turn.
function operations.stats()
  local by_state, by_priority = {}, {}
  for _, state in ipairs(states) do
    table.insert(by_state, state)
    table.insert(by_state, redis.call('ZCARD', in_state(state)))
  end
  for _, priority in ipairs(priorities) do
    table.insert(by_priority, priority)
    table.insert(by_priority, waiting_with(priority))
  end
  local oldest = redis.call('ZRANGE', since, 0, 0, 'WITHSCORES')[2]
  return {by_state, by_priority, oldest and math.max(0, now - oldest) or 0, redis.call('ZCARD', notices)}
end

-- Operations read lists from ARGV: Lua cannot pass thousands of arguments.
return operations[ARGV[1]](unpack(ARGV, 2, math.min(#ARGV, 20)))
