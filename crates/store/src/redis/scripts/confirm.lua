-- Confirms a reserved lease. KEYS: the generation, the record, its mark. ARGV[2]: its id.
local v = call('MGET', KEYS[1], KEYS[2], KEYS[3])
local no = begin(v[1])
if no then return no end
local r = v[2]
if not r or byte(r, 2) ~= 0 or now >= u64(r, 33) then return {32} end
r = sub(r, 1, 1) .. '\1' .. sub(r, 3)
local keys, n = carried(r)
local w = {}
if #keys > 0 then w = call('MGET', unpack(keys)) end
if any_blocked(w, n) or judge(r, v[3], keys, n, w) then return {32} end
call('SETRANGE', KEYS[2], 1, '\1')
call('ZADD', 'mf:u', u64(r, 17), ARGV[2])
return {0, r}
