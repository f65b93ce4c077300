-- The operations on live sessions. Each one is atomic. ARGV[1] is the name of the operation, the rest its arguments.
--
-- KEYS[1] is the prefix of all keys of the jobs: see jobs.lua.
--
--   PREFIX:live              set    the ids of the sessions that are not done
--   PREFIX:live:ID           hash   config, submitter; fence: how often the session was opened; beat: changes while a
--                                   gateway works on it; bytes: the size of the audio; stored, parts: how many of these
--                                   bytes are in the object storage, in how many parts
--   PREFIX:live:ID:audio     list   the audio after the stored parts, as it was received
--   PREFIX:live:ID:events    list   the numbered events
--   PREFIX:live:ID:voices    list   the pieces of speech that were heard
--
-- All operations with a fence return false if the session has been opened again since, or does not exist.

local function key_of(id, part) return KEYS[1] .. ':live:' .. id .. (part and ':' .. part or '') end

local function owned(id, fence) return redis.call('HGET', key_of(id), 'fence') == fence end

local operations = {}

-- Creates a session.
function operations.create(id, config, submitter)
  redis.call('HSET', key_of(id), 'config', config, 'submitter', submitter, 'fence', 0, 'beat', 0, 'bytes', 0,
    'stored', 0, 'parts', 0)
  redis.call('SADD', KEYS[1] .. ':live', id)
  return 1
end

-- Opens a session. Whoever opened it before cannot write to it anymore. Returns false if it does not exist, or has
-- another submitter; an empty submitter stands for any.
function operations.open(id, submitter)
  local owner = redis.call('HGET', key_of(id), 'submitter')
  if not owner or (submitter ~= '' and submitter ~= owner) then return false end
  local fence = redis.call('HINCRBY', key_of(id), 'fence', 1)
  local fields = redis.call('HMGET', key_of(id), 'config', 'bytes', 'stored', 'parts')
  return {fence, owner, fields[1], tonumber(fields[2]), tonumber(fields[3]), tonumber(fields[4]),
    redis.call('LRANGE', key_of(id, 'audio'), 0, -1),
    redis.call('LRANGE', key_of(id, 'events'), 0, -1),
    redis.call('LRANGE', key_of(id, 'voices'), 0, -1)}
end

-- Appends audio at `offset`. What is after it comes from a call whose reply was lost: it is replaced.
function operations.append_audio(id, fence, offset, data)
  if not owned(id, fence) then return false end
  local bytes = tonumber(redis.call('HGET', key_of(id), 'bytes'))
  while bytes > tonumber(offset) do bytes = bytes - #redis.call('RPOP', key_of(id, 'audio')) end
  redis.call('RPUSH', key_of(id, 'audio'), data)
  redis.call('HSET', key_of(id), 'bytes', bytes + #data)
  return 1
end

-- Appends entry `number`, from 1, to a list. What is there already comes from a call whose reply was lost.
function operations.append(id, fence, list, number, entry)
  if not owned(id, fence) then return false end
  local key = key_of(id, list)
  while redis.call('LLEN', key) >= tonumber(number) do redis.call('RPOP', key) end
  redis.call('RPUSH', key, entry)
  return 1
end

-- Removes all audio from here: it is in the object storage now, with `parts` parts and `stored` bytes.
function operations.audio_stored(id, fence, parts, stored)
  if not owned(id, fence) then return false end
  redis.call('DEL', key_of(id, 'audio'))
  redis.call('HSET', key_of(id), 'parts', parts, 'stored', stored)
  return 1
end

-- Says that a gateway works on a session.
function operations.beat(id, fence)
  if not owned(id, fence) then return false end
  return redis.call('HINCRBY', key_of(id), 'beat', 1)
end

-- Returns the sessions that are not done, each with a value that changes while a gateway works on it.
function operations.states()
  local states = {}
  for _, id in ipairs(redis.call('SMEMBERS', KEYS[1] .. ':live')) do
    local state = redis.call('HMGET', key_of(id), 'fence', 'beat')
    states[#states + 1] = id
    states[#states + 1] = state[1] .. ':' .. state[2]
  end
  return states
end

-- Says that a session is done. Its events are kept for some seconds.
function operations.done(id, fence, seconds)
  if not owned(id, fence) then return false end
  redis.call('SREM', KEYS[1] .. ':live', id)
  redis.call('DEL', key_of(id, 'audio'), key_of(id, 'voices'))
  redis.call('EXPIRE', key_of(id), seconds)
  redis.call('EXPIRE', key_of(id, 'events'), seconds)
  return 1
end

return operations[ARGV[1]](unpack(ARGV, 2))
