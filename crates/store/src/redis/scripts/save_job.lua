-- Stores a job's progress; one that is done stays done, one that nobody knows stays unknown. KEYS: the
-- generation, the job. ARGV: its id, when and the fence (8 each), the job, whether it is done, for how long it
-- stays claimed, for how long it is kept at most once it is done (0: as long as fences).
local v = call('MGET', KEYS[1], KEYS[2])
local no = begin(v[1])
if no then return no end
if not v[2] or u64(v[2], 17) > 0 then return {0} end
if ARGV[5] == '1' then
  local ends, brief = fence_ends(), u64(ARGV[7])
  if brief > 0 then ends = math.min(ends, now + brief) end
  put(KEYS[2], ARGV[3] .. pack('>I8', ends) .. ARGV[4], ends)
  call('ZREM', 'mf:jobs', ARGV[2])
else
  call('SET', KEYS[2], ARGV[3] .. pack('>I8', 0) .. ARGV[4])
  call('ZADD', 'mf:jobs', now + u64(ARGV[6]), ARGV[2])
end
return {0}
