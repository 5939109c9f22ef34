-- Whether a call may go on: in the caller's generation, on a store that has forgotten nothing too early, by clocks that agree.
--
-- Redis forgets by its clock. Where that was ahead and went back, what it forgot meanwhile may still count. Two things tell.
-- `mf:clock`, which never ends, has the highest time at which a script looked (8 octets, noted once in NOTED_MS) and the
-- number of the last tick (8). Ticks end at each multiple of TICK_MS from now on until everything of now is over: one that
-- is gone before its time says that the clock was there, though no script looked then.
local TICK_MS, NOTED_MS, PAUSE_MS = KEPT_LONGER_MS - CLOCK_BACK_MS, 1000, 2000

-- Whether what is kept for a time may be gone. The next tick tells at once; now and then more are looked at, and all of
-- them where nobody looked for a while: Redis forgets bit by bit, and may have come to other keys first. Also returns the
-- last tick, where the time is to be noted.
local function forgot()
  -- Left in its place by a clock that was ahead no further than is tolerated.
  local first = floor((now + CLOCK_BACK_MS) / TICK_MS) + 1
  local seen = call('MGET', 'mf:clock', 'mf:tick:' .. first)
  if not seen[1] or not seen[2] then return true end
  local noted, last = unp('>I8I8', seen[1])
  if noted > now + CLOCK_BACK_MS then return true end
  if now < noted + NOTED_MS then return false end
  local to = now < noted + PAUSE_MS and min(first + 255, last) or last
  for at = first, to, 1000 do
    local ticks = {}
    for n = at, min(at + 999, to) do ticks[#ticks + 1] = 'mf:tick:' .. n end
    if call('EXISTS', unpack(ticks)) < #ticks then return true end
  end
  return false, last
end

-- Notes the time, and adds the ticks from `first` to the last that is needed.
local function note(first)
  local last = floor((now + u64(head, 23) + 2 * SKEW_MS + KEPT_LONGER_MS) / TICK_MS) + 1
  for n = first, last do call('SET', 'mf:tick:' .. n, '', 'PXAT', n * TICK_MS) end
  call('SET', 'mf:clock', pack('>I8I8', now, max(first - 1, last)))
end

-- The refusal where the store's generation is not the caller's, where the store may have forgotten something, or where the
-- clocks are too far apart.
local function begin(generation)
  if generation ~= sub(head, 1, 30) then return {1, generation} end
  if not fixed_clock then
    local gone, last = forgot()
    if gone then return {4} end
    if last then note(last + 1) end
  end
  local difference = now - clock
  if skew > 0 and (difference > skew or difference < -skew) then return {2, difference} end
end
