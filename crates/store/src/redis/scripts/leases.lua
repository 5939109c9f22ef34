-- Pages of an index of leases, as lists and sweeps walk it.

-- The ids of a page, and where to go on. `place`: where the last page ended: partition or mode (1), expiry (8), id (16),
-- whether there was one (1), limit (4). `along`: the index, or none for the expiry partitions.
local function page(place, along)
  local partition, expires, last, started, limit = unp('>BI8c16BI4', place)
  if started == 0 then last = nil end
  local ids, next_place = {}, false
  local function take(key, p, base)
    local found = entries(key, base + now, base + MODE - 1, base + expires, last, limit - #ids)
    last = nil
    for i = 1, #found, 2 do ids[#ids + 1] = found[i] end
    if #ids == limit and #found > 0 then
      next_place = pack('>BI8c16', p, found[#found] - base, found[#found - 1])
    end
  end

  if along then
    for mode = partition, MODES - 1 do
      take(along, mode, mode * MODE)
      if #ids == limit then break end
    end
  else
    for p = partition, 255 do
      take('mf:x:{' .. p .. '}', p, 0)
      if #ids == limit then break end
    end
  end
  return ids, next_place
end
