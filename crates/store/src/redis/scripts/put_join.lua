-- Stores a join token and what it observes, bound to no key. KEYS: the generation, the token, its binding, then the
-- observed gates in the order of their keys. ARGV: its id, the token, the gates' dimension keys in a row.
local v = call('MGET', unpack(KEYS))
local no = begin(v[1])
if no then return no end
if v[2] and now < u64(v[2], 3) then return {32} end
local pairs, keys, ends = {}, ARGV[4], u64(ARGV[3], 3)
for i = 4, #KEYS do
  pairs[#pairs + 1] = sub(keys, i * 16 - 63, i * 16 - 48) .. pack('>I6', fence_of(v[i]) or 0)
end
put(KEYS[3], '\1\0' .. ZEROS .. ZEROS .. pack('>I8I8B', now, ends, #pairs) .. table.concat(pairs), ends)
put(KEYS[2], ARGV[3], ends)
call('HSET', 'mf:joins', ARGV[2], sub(KEYS[2], 8, 39))
return {0}
