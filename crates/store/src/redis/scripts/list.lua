-- Reads a page of an index. KEYS: the generation, and the index, or none for the expiry partitions. ARGV[2]: where the
-- last page ended.
local no = begin(call('GET', KEYS[1]))
if no then return no end
local ids, next_place = page(ARGV[2], KEYS[2])
if #ids == 0 then return {0, now, false, ids, ids} end
local keys = {}
for i, id in ipairs(ids) do
  keys[i] = 'mf:l:{l' .. id .. '}'
  keys[#ids + i] = 'mf:m:{l' .. id .. '}'
end
return {0, now, next_place, ids, call('MGET', unpack(keys))}
