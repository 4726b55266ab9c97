# Written by apical for vcu118 (xcvu9p-flga2104-2L-e). Not run in Vivado and not on silicon by its authors.
# Block design without a processor: apical_axi behind the JTAG cable, one clock of 200 MHz from the board's oscillator.
# The seam is the AXI master: put a PCIe bridge (xdma) in the place of `jtag` and the rest stays as it is.
# Sourced by project.tcl and non_project.tcl; needs the packaged IP in the catalog.
create_bd_design system

create_bd_port -dir I -type clk -freq_hz 300000000 clk_p
create_bd_port -dir I -type clk -freq_hz 300000000 clk_n
create_bd_cell -type ip -vlnv xilinx.com:ip:clk_wiz:6.0 clock
set_property -dict [list \
    CONFIG.PRIM_SOURCE {Differential_clock_capable_pin} \
    CONFIG.PRIM_IN_FREQ {300} \
    CONFIG.CLKOUT1_REQUESTED_OUT_FREQ {200} \
    CONFIG.USE_RESET {false} \
    CONFIG.USE_LOCKED {true} \
] [get_bd_cells clock]
connect_bd_net [get_bd_ports clk_p] [get_bd_pins clock/clk_in1_p]
connect_bd_net [get_bd_ports clk_n] [get_bd_pins clock/clk_in1_n]

create_bd_cell -type ip -vlnv apical:user:apical_axi:1.0 accelerator
create_bd_cell -type ip -vlnv xilinx.com:ip:jtag_axi:1.2 jtag
set_property -dict [list CONFIG.PROTOCOL {0} CONFIG.M_AXI_DATA_WIDTH {64}] [get_bd_cells jtag]
# A stream's words are written to and read from this FIFO.
create_bd_cell -type ip -vlnv xilinx.com:ip:axi_fifo_mm_s words
set_property -dict [list \
    CONFIG.C_DATA_INTERFACE_TYPE {1} \
    CONFIG.C_S_AXI4_DATA_WIDTH {64} \
    CONFIG.C_USE_TX_CTRL {0} \
    CONFIG.C_USE_TX_DATA {1} \
    CONFIG.C_USE_RX_DATA {1} \
    CONFIG.C_HAS_AXIS_TKEEP {true} \
    CONFIG.C_TX_FIFO_DEPTH {4096} \
    CONFIG.C_RX_FIFO_DEPTH {4096} \
] [get_bd_cells words]
create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect:1.0 control
set_property -dict [list CONFIG.NUM_SI {1} CONFIG.NUM_MI {3} CONFIG.NUM_CLKS {1}] [get_bd_cells control]
create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset:5.0 reset

connect_bd_intf_net [get_bd_intf_pins jtag/M_AXI] [get_bd_intf_pins control/S00_AXI]
connect_bd_intf_net [get_bd_intf_pins control/M00_AXI] [get_bd_intf_pins accelerator/s_axi]
connect_bd_intf_net [get_bd_intf_pins control/M01_AXI] [get_bd_intf_pins words/S_AXI]
connect_bd_intf_net [get_bd_intf_pins control/M02_AXI] [get_bd_intf_pins words/S_AXI_FULL]
connect_bd_intf_net [get_bd_intf_pins words/AXI_STR_TXD] [get_bd_intf_pins accelerator/s_axis]
connect_bd_intf_net [get_bd_intf_pins accelerator/m_axis] [get_bd_intf_pins words/AXI_STR_RXD]

connect_bd_net [get_bd_pins clock/clk_out1] \
    [get_bd_pins accelerator/aclk] [get_bd_pins jtag/aclk] [get_bd_pins words/s_axi_aclk] \
    [get_bd_pins control/aclk] [get_bd_pins reset/slowest_sync_clk]
connect_bd_net [get_bd_pins clock/locked] [get_bd_pins reset/dcm_locked]
create_bd_port -dir I -type rst reset_button
set_property CONFIG.POLARITY ACTIVE_HIGH [get_bd_ports reset_button]
connect_bd_net [get_bd_ports reset_button] [get_bd_pins reset/ext_reset_in]
connect_bd_net [get_bd_pins reset/peripheral_aresetn] \
    [get_bd_pins accelerator/aresetn] [get_bd_pins jtag/aresetn] [get_bd_pins words/s_axi_aresetn] [get_bd_pins control/aresetn]

assign_bd_address -offset 0x44000000 -range 4K -target_address_space [get_bd_addr_spaces jtag/Data] [get_bd_addr_segs accelerator/s_axi/reg0]
assign_bd_address -offset 0x44100000 -range 64K -target_address_space [get_bd_addr_spaces jtag/Data] [get_bd_addr_segs words/S_AXI/Mem0]
assign_bd_address -offset 0x44200000 -range 64K -target_address_space [get_bd_addr_spaces jtag/Data] [get_bd_addr_segs words/S_AXI_FULL/Mem1]
validate_bd_design
save_bd_design
