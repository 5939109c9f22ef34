-- Replaces the sealed keys where the stored version is the expected one. KEYS: the generation, the keys. ARGV:
-- the expected version and the next (8 each), what is sealed.
local v = call('MGET', KEYS[1], KEYS[2])
local no = begin(v[1])
if no then return no end
local expected, version = unp('>I8I8', ARGV[2])
if (v[2] and u64(v[2]) or 0) ~= expected then return {0, 0} end
call('SET', KEYS[2], pack('>I8', version) .. ARGV[3])
publish(KEYS_CHANGED, ZEROS, pack('>I8', version))
return {0, 1}
