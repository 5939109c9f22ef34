-- Ends a lease at a wish. KEYS: the generation, the record. ARGV: id, reason (1), whether the caller may (1),
-- the revocation (16, zeros for none), the body as its holder was read from it (empty: no holder).
local v = call('MGET', KEYS[1], KEYS[2])
local no = begin(v[1])
if no then return no end
local r = v[2]
if not r then return {23} end
if ARGV[5] ~= '' and sub(r, 75 + unp('>I2', r, 73)) ~= ARGV[5] then return {32} end
local reason, may = byte(ARGV[3], 1, 2)
if may == 0 then return {30} end
if byte(r, 2) == 2 or now >= u64(r, 17) then return {0, r, 0} end
return {0, finish(KEYS[2], ARGV[2], r, reason, ARGV[4]), 1}
