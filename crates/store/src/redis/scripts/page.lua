-- Entries of a sorted set of ids, page by page, while it changes.

-- Whether `a` is not after `b`; Lua's own comparison follows the server's locale.
local function not_after(a, b)
  local a1, a2, a3 = unp('>I6I6I4', a)
  local b1, b2, b3 = unp('>I6I6I4', b)
  if a1 ~= b1 then return a1 < b1 end
  if a2 ~= b2 then return a2 < b2 end
  return a3 <= b3
end

-- Up to `most` entries of `key` with scores above `low` and up to `high`, in the order of score and id: {id, score, ...}.
-- `score` and `last`, where they are given: after that entry.
local function entries(key, low, high, score, last, most)
  local from
  if not last or score <= low then
    from = call('ZCOUNT', key, '-inf', low)
  else
    from = call('ZCOUNT', key, '-inf', score - 1)
    local ends = from + call('ZCOUNT', key, score, score)
    while from < ends do
      local middle = floor((from + ends) / 2)
      if not_after(call('ZRANGE', key, middle, middle)[1], last) then from = middle + 1 else ends = middle end
    end
  end
  local to = min(from + most, call('ZCOUNT', key, '-inf', high))
  if to <= from then return {} end
  return call('ZRANGE', key, from, to - 1, 'WITHSCORES')
end
