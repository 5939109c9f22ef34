-- Joining tasks: `lease::transition::task` in Lua.

-- Joins the task `t` or opens it. `plan`: window (8), kept at least so long (8), the workload's dimension key
-- (16), where a stored body has its intent (2), the caller's intent as a body has it (empty: none).
-- Returns a refusal, or nil, the record, when its window ends, and until when to keep it where it must be
-- written.
local function join(t, plan, body)
  local window, keep, owner, at = unp('>I8I8c16I2', plan)
  keep = now + keep
  if not t or now >= u64(t, 19) then
    local ends = now + window
    ends = ends - ends % 1000
    keep = max(keep, ends)
    return nil, pack('>BBI8I8I8', 1, 0, now, ends, keep) .. owner .. body, ends, keep, 0
  end
  local version, state, _, ends, kept = unp('>BBI8I8I8', t)
  if version ~= 1 then error('task record: unknown version') end
  if sub(t, 27, 42) ~= owner then return {18} end
  if state ~= 0 then return {17} end
  if now >= ends then return {20} end
  local intent = sub(plan, 35)
  if intent ~= '' and byte(t, 43 + at) == 1 and sub(t, 43 + at, 42 + at + #intent) ~= intent then
    return {19}
  end
  if kept < keep then return nil, sub(t, 1, 18) .. pack('>I8', keep) .. sub(t, 27), ends, keep, 1 end
  return nil, t, ends, nil, 1
end
