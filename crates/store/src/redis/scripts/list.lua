-- Reads a page of an index. KEYS: the generation, and the index, or none for the expiry partitions.
-- ARGV: where the last page ended: partition (1), expiry (8), id (16), whether there was one (1), limit (4).
local no = begin(call('GET', KEYS[1]))
if no then return no end
local partition, expires, last, started, limit = unp('>BI8c16BI4', ARGV[2])

-- Whether `a` is not after `b`; Lua's own comparison follows the server's locale.
local function not_after(a, b)
  local a1, a2, a3 = unp('>I6I6I4', a)
  local b1, b2, b3 = unp('>I6I6I4', b)
  if a1 ~= b1 then return a1 < b1 end
  if a2 ~= b2 then return a2 < b2 end
  return a3 <= b3
end

-- The rank of the first entry that is not over and after the place where the last page ended.
local function rank(key)
  if started == 0 or expires <= now then return call('ZCOUNT', key, '-inf', now) end
  local low = call('ZCOUNT', key, '-inf', expires - 1)
  local high = low + call('ZCOUNT', key, expires, expires)
  while low < high do
    local middle = floor((low + high) / 2)
    if not_after(call('ZRANGE', key, middle, middle)[1], last) then low = middle + 1 else high = middle end
  end
  return low
end

local ids, next_place = {}, false
local function take(key, p)
  local from = rank(key)
  started = 0
  local page = call('ZRANGE', key, from, from + limit - #ids - 1, 'WITHSCORES')
  for i = 1, #page, 2 do ids[#ids + 1] = page[i] end
  if #ids == limit and #page > 0 then next_place = pack('>BI8c16', p, page[#page], page[#page - 1]) end
end

if KEYS[2] then
  take(KEYS[2], 0)
else
  for p = partition, 255 do
    take('mf:x:{' .. p .. '}', p)
    if #ids == limit then break end
  end
end
if #ids == 0 then return {0, now, false, ids, ids} end
local keys = {}
for i, id in ipairs(ids) do
  keys[i] = 'mf:l:{l' .. id .. '}'
  keys[#ids + i] = 'mf:m:{l' .. id .. '}'
end
return {0, now, next_place, ids, call('MGET', unpack(keys))}
