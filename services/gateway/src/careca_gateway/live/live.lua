-- The operations on live sessions. Each one is atomic. ARGV[1] is the name of the operation, the rest its arguments.
--
-- KEYS[1] is the prefix of all keys of the jobs: see jobs.lua.
--
--   PREFIX:live              set    the ids of the sessions that are not done
--   PREFIX:live:sweeps       string how often gateways have looked for sessions without a gateway
--   PREFIX:live:ID           hash   config, submitter; fence: how often the session was opened; adopted: whether it was
--                                   opened last without a call; beat: changes while a gateway works on it; settled: the
--                                   milliseconds of audio that need not be read again; sealed: 1 if no more audio comes;
--                                   bytes: the size of the audio; stored: how many of them are in the object storage;
--                                   seq:LIST: the number of the last write to a list since the session was opened
--   PREFIX:live:ID:parts     list   the names of the parts in the object storage
--   PREFIX:live:ID:audio     list   the audio after the parts, as it was received
--   PREFIX:live:ID:events    list   the numbered events
--   PREFIX:live:ID:voices    list   the pieces of speech that were heard
--
-- Operations with a fence return 1; 0 if the session was opened again by a call, or does not exist; -1 if it was opened
-- again without a call. A write with a number that is not new has been done: its reply was lost, or it is late.

local function key_of(id, part) return KEYS[1] .. ':live:' .. id .. (part and ':' .. part or '') end

local function refusal(id, fence)
  if redis.call('HGET', key_of(id), 'fence') == fence then return nil end
  return redis.call('HGET', key_of(id), 'adopted') == '1' and -1 or 0
end

local function is_new(id, list, number)
  local last = tonumber(redis.call('HGET', key_of(id), 'seq:' .. list) or 0)
  if tonumber(number) <= last then return false end
  redis.call('HSET', key_of(id), 'seq:' .. list, number)
  return true
end

local operations = {}

-- Creates a session.
function operations.create(id, config, submitter)
  redis.call('HSET', key_of(id), 'config', config, 'submitter', submitter, 'fence', 0, 'adopted', 0, 'beat', 0,
    'settled', 0, 'sealed', 0, 'bytes', 0, 'stored', 0)
  redis.call('SADD', KEYS[1] .. ':live', id)
  return 1
end

-- Opens a session for a call of `submitter`, or without a call if its state is `expected`. Whoever opened it before
-- cannot write to it anymore. Returns false if it does not exist, has another submitter, or another state.
function operations.open(id, submitter, expected)
  local fields = redis.call('HMGET', key_of(id), 'submitter', 'config', 'bytes', 'stored', 'settled', 'sealed',
    'fence', 'beat')
  if not fields[1] or (expected == '' and submitter ~= fields[1]) then return false end
  if expected ~= '' and expected ~= fields[7] .. ':' .. fields[8] then return false end
  local fence = redis.call('HINCRBY', key_of(id), 'fence', 1)
  redis.call('HSET', key_of(id), 'adopted', expected == '' and 0 or 1)
  redis.call('HDEL', key_of(id), 'seq:audio', 'seq:events', 'seq:voices')
  return {fence, fields[1], fields[2], tonumber(fields[3]), tonumber(fields[4]), tonumber(fields[5]),
    tonumber(fields[6]),
    redis.call('LRANGE', key_of(id, 'parts'), 0, -1),
    redis.call('LRANGE', key_of(id, 'audio'), 0, -1),
    redis.call('LRANGE', key_of(id, 'events'), 0, -1),
    redis.call('LRANGE', key_of(id, 'voices'), 0, -1)}
end

-- Appends audio at `offset`. What is after it comes from a write that the gateway has given up: it is replaced.
function operations.append_audio(id, fence, number, offset, data)
  local refused = refusal(id, fence)
  if refused then return refused end
  if not is_new(id, 'audio', number) then return 1 end
  local bytes = tonumber(redis.call('HGET', key_of(id), 'bytes'))
  while bytes > tonumber(offset) do
    local last = redis.call('RPOP', key_of(id, 'audio'))
    if not last then break end -- parts are missing
    bytes = bytes - #last
  end
  redis.call('RPUSH', key_of(id, 'audio'), data)
  redis.call('HSET', key_of(id), 'bytes', offset + #data)
  return 1
end

-- Removes all audio from here: it is in the object storage now, in a part with this name, up to byte `stored`.
function operations.audio_stored(id, fence, number, name, stored)
  local refused = refusal(id, fence)
  if refused then return refused end
  if not is_new(id, 'audio', number) then return 1 end
  redis.call('DEL', key_of(id, 'audio'))
  redis.call('RPUSH', key_of(id, 'parts'), name)
  redis.call('HSET', key_of(id), 'stored', stored)
  return 1
end

-- Appends entry `position`, from 1, to a list. What is there comes from a write that the gateway has given up.
function operations.append(id, fence, number, list, position, entry)
  local refused = refusal(id, fence)
  if refused then return refused end
  if not is_new(id, list, number) then return 1 end
  local key = key_of(id, list)
  while redis.call('LLEN', key) >= tonumber(position) do redis.call('RPOP', key) end
  redis.call('RPUSH', key, entry)
  return 1
end

-- Says that a gateway works on a session, and from which millisecond on audio must be read again if it is gone.
function operations.beat(id, fence, settled)
  local refused = refusal(id, fence)
  if refused then return refused end
  redis.call('HINCRBY', key_of(id), 'beat', 1)
  redis.call('HSET', key_of(id), 'settled', settled)
  return 1
end

-- Says that no more audio comes.
function operations.seal(id, fence)
  local refused = refusal(id, fence)
  if refused then return refused end
  redis.call('HSET', key_of(id), 'sealed', 1)
  return 1
end

-- Returns the sessions that are not done, each with its state, which changes while a gateway works on it. This writes, so
-- that it fails if gateways cannot write their beats.
function operations.states()
  redis.call('INCR', KEYS[1] .. ':live:sweeps')
  local states = {}
  for _, id in ipairs(redis.call('SMEMBERS', KEYS[1] .. ':live')) do
    local state = redis.call('HMGET', key_of(id), 'fence', 'beat')
    if state[1] then
      states[#states + 1] = id
      states[#states + 1] = state[1] .. ':' .. state[2]
    else
      redis.call('SREM', KEYS[1] .. ':live', id)
    end
  end
  return states
end

-- Says that a session is done. Its events are kept for some seconds.
function operations.done(id, fence, seconds)
  local refused = refusal(id, fence)
  if refused then return refused end
  redis.call('SREM', KEYS[1] .. ':live', id)
  redis.call('DEL', key_of(id, 'audio'), key_of(id, 'parts'), key_of(id, 'voices'))
  redis.call('EXPIRE', key_of(id), seconds)
  redis.call('EXPIRE', key_of(id, 'events'), seconds)
  return 1
end

return operations[ARGV[1]](unpack(ARGV, 2))
