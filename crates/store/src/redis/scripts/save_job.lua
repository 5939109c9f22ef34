-- Stores a job's progress; one that is done stays done. KEYS: the generation, the job. ARGV: its id, its stored
-- form, for how long it stays claimed.
local v = call('MGET', KEYS[1], KEYS[2])
local no = begin(v[1])
if no then return no end
local done = byte(ARGV[3], 17)
if v[2] and byte(v[2], 17) == 1 and done == 0 then return {0} end
if done == 1 then
  put(KEYS[2], ARGV[3], fence_ends())
  call('ZREM', 'mf:jobs', ARGV[2])
else
  call('SET', KEYS[2], ARGV[3])
  call('ZADD', 'mf:jobs', now + u64(ARGV[4]), ARGV[2])
end
return {0}
