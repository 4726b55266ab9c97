# Written by apical for vcu118 (xcvu9p-flga2104-2L-e). Not run in Vivado and not on silicon by its authors.
# 300 MHz oscillator of vcu118, differential; the clock wizard makes 200 MHz of it, constrained from here on by itself.
set_property PACKAGE_PIN G31 [get_ports clk_p]
set_property IOSTANDARD DIFF_SSTL12 [get_ports clk_p]
set_property PACKAGE_PIN F31 [get_ports clk_n]
set_property IOSTANDARD DIFF_SSTL12 [get_ports clk_n]
create_clock -name board_clock -period 3.333 [get_ports clk_p]
set_property PACKAGE_PIN L19 [get_ports reset_button]
set_property IOSTANDARD LVCMOS12 [get_ports reset_button]
set_false_path -from [get_ports reset_button]
set_property CFGBVS GND [current_design]
set_property CONFIG_VOLTAGE 1.8 [current_design]
set_property BITSTREAM.GENERAL.COMPRESS TRUE [current_design]
