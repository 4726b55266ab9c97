# Written by apical for kv260 (xck26-sfvc784-2LV-c). Not run in Vivado and not on silicon by its authors.
# Non-project flow: the same system without a project on disk. First package_ip.tcl, then
# vivado -mode batch -source non_project.tcl
set here [file normalize [file dirname [info script]]]
set reports [file join $here reports]
file mkdir $reports [file join $here build]
cd [file join $here build]

create_project -in_memory -part xck26-sfvc784-2LV-c
if {[llength [get_board_parts -quiet xilinx.com:kv260_som:part0:1.4]]} {
    set_property board_part xilinx.com:kv260_som:part0:1.4 [current_project]
}
set_property ip_repo_paths [file join $here .. ip] [current_project]
update_ip_catalog
source [file join $here system.tcl]
set_property synth_checkpoint_mode None [get_files system.bd]
generate_target all [get_files system.bd]
read_verilog [make_wrapper -files [get_files system.bd] -top]
read_xdc [file join $here .. constraints board.xdc]

synth_design -top system_wrapper -part xck26-sfvc784-2LV-c
opt_design
place_design
phys_opt_design
route_design
report_utilization -file [file join $reports utilization.rpt]
report_utilization -hierarchical -file [file join $reports utilization_hierarchical.rpt]
report_timing_summary -max_paths 10 -report_unconstrained -file [file join $reports timing.rpt]
report_power -file [file join $reports power.rpt]
write_checkpoint -force [file join $here system.dcp]
write_bitstream -force [file join $here apical_axi.bit]
# What PYNQ reads beside the bitstream; for a platform file (.xsa) take project.tcl.
foreach found [glob -nocomplain .srcs/sources_1/bd/system/hw_handoff/system.hwh .gen/sources_1/bd/system/hw_handoff/system.hwh] {
    file copy -force $found [file join $here apical_axi.hwh]
}
