# Written by apical for kv260 (xck26-sfvc784-2LV-c). Not run in Vivado and not on silicon by its authors.
# Out of context: apical_axi alone, placed and routed on xck26-sfvc784-2LV-c at 150 MHz. One command to utilization, timing and power:
# vivado -mode batch -source out_of_context.tcl
# Where activity.saif lies beside this file (`apical activity`), power is that of the workload in it, else Vivado's guess.
set here [file normalize [file dirname [info script]]]
set reports [file join $here reports]
file mkdir $reports

create_project -in_memory -part xck26-sfvc784-2LV-c
read_verilog [file join $here .. rtl apical_axi.v]
read_xdc -mode out_of_context [file join $here .. constraints apical_axi_ooc.xdc]
synth_design -top apical_axi -part xck26-sfvc784-2LV-c -mode out_of_context -flatten_hierarchy rebuilt
opt_design
place_design
phys_opt_design
route_design
set activity [file join $here activity.saif]
if {[file exists $activity]} {
    current_instance core
    read_saif -strip_path TOP/apical_top/accelerator $activity
    current_instance
}
report_utilization -file [file join $reports utilization.rpt]
report_utilization -hierarchical -file [file join $reports utilization_hierarchical.rpt]
report_timing_summary -max_paths 10 -report_unconstrained -file [file join $reports timing.rpt]
report_power -file [file join $reports power.rpt]
write_checkpoint -force [file join $here apical_axi.dcp]
