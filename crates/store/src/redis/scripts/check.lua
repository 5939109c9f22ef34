-- Judges a credential. KEYS: the generation, the record, its mark. ARGV[2]: the observation that the
-- credential carries, empty for none.
local v = call('MGET', KEYS[1], KEYS[2], KEYS[3])
local no = begin(v[1])
if no then return no end
local r = v[2]
if not r then
  if stands(v[3]) then return {28, sub(v[3], 9, 24)} end
  return {23}
end
local o = ARGV[2]
if o ~= '' and o ~= sub(r, 75, 74 + unp('>I2', r, 73)) then return {29} end
return judge(r, v[3]) or {0, r, keys_version()}
