-- The operations on saved voices. Each one is atomic. ARGV[1] is the name of the operation, the rest its arguments.
--
-- KEYS[1] is the prefix of all keys of the jobs: see jobs.lua.
--
--   PREFIX:voices:SUBMITTER   hash   what is equal for names that cannot be distinguished, to the voice (JSON)

local function key_of(submitter) return KEYS[1] .. ':voices:' .. submitter end

local operations = {}

-- Saves a voice. Returns 1, or 0 if there are `most` others.
function operations.save(submitter, name, voice, most)
  local key = key_of(submitter)
  if redis.call('HEXISTS', key, name) == 0 and redis.call('HLEN', key) >= tonumber(most) then return 0 end
  redis.call('HSET', key, name, voice)
  return 1
end

-- Returns the submitter's voices.
function operations.list(submitter)
  return redis.call('HVALS', key_of(submitter))
end

-- Returns 1, or 0 if there is no such voice.
function operations.delete(submitter, name)
  return redis.call('HDEL', key_of(submitter), name)
end

return operations[ARGV[1]](unpack(ARGV, 2))
