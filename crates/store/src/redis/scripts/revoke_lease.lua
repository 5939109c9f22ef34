-- Revokes one lease by a mark. KEYS: the generation, the record, the mark, the job. ARGV: the job's id, the
-- job, until when to keep the mark of an unknown lease, the lease.
local v = call('MGET', KEYS[1], KEYS[2], KEYS[3])
local no = begin(v[1])
if no then return no end
local ends = u64(ARGV[4])
if v[2] then ends = max(u64(v[2], 17), u64(v[2], 25)) + 2 * SKEW_MS end
if v[3] then ends = max(ends, u64(v[3])) end
put(KEYS[3], pack('>I8', ends) .. ARGV[2], ends)
remember_until('mf:marks', ARGV[5], ends)
return {0, now, open_job(KEYS[4], ARGV[2], 0, ARGV[3], MARK, ARGV[5] .. pack('>I8', ends))}
