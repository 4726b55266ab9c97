# Written by apical for kv260 (xck26-sfvc784-2LV-c). Not run in Vivado and not on silicon by its authors.
# No pins of the programmable logic are used: clock (150 MHz), reset, memory and interrupts are the processing system's,
# whose IP constrains pl_clk0 itself. One clock, so there are no crossings to except.
set_property BITSTREAM.GENERAL.COMPRESS TRUE [current_design]
