-- Pages of an index, as lists and sweeps walk it.

-- Whether `a` is not after `b`; Lua's own comparison follows the server's locale.
local function not_after(a, b)
  local a1, a2, a3 = unp('>I6I6I4', a)
  local b1, b2, b3 = unp('>I6I6I4', b)
  if a1 ~= b1 then return a1 < b1 end
  if a2 ~= b2 then return a2 < b2 end
  return a3 <= b3
end

-- The ids of a page, and where to go on. `place`: where the last page ended: partition (1), expiry (8), id (16), whether
-- there was one (1), limit (4). `along`: the index, or none for the expiry partitions.
local function page(place, along)
  local partition, expires, last, started, limit = unp('>BI8c16BI4', place)

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
    local entries = call('ZRANGE', key, from, from + limit - #ids - 1, 'WITHSCORES')
    for i = 1, #entries, 2 do ids[#ids + 1] = entries[i] end
    if #ids == limit and #entries > 0 then
      next_place = pack('>BI8c16', p, entries[#entries], entries[#entries - 1])
    end
  end

  if along then
    take(along, 0)
  else
    for p = partition, 255 do
      take('mf:x:{' .. p .. '}', p)
      if #ids == limit then break end
    end
  end
  return ids, next_place
end
