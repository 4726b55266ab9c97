// Cells of ECP5 that Yosys's own cells_sim.v doesn't model, as our netlists use them. A parameter or pin outside of that
// is refused: by name at elaboration where it isn't declared here, by $error or $fatal otherwise. After FPGA-TN-02204
// (block RAM), FPGA-TN-02205 (sysDSP) and FPGA-DS-02012 of Lattice.

// A multiplier of 18 x 18 bits without registers; SIGNEDA, SIGNEDB: two's complement.
module MULT18X18D (
    input
        A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0,
        B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0,
        C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5, C4, C3, C2, C1, C0,
        SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
    output
        P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15, P14,
        P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
);
    wire signed [18:0] a = {SIGNEDA & A17,
        A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0};
    wire signed [18:0] b = {SIGNEDB & B17,
        B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0};
    assign {
        P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15, P14,
        P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
    } = a * b;
    always_comb
        if (SOURCEA !== 0 || SOURCEB !== 0 || {C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5, C4, C3, C2, C1, C0} !== 0)
            $fatal(1, "MULT18X18D: expected a plain product");
endmodule

// Block RAM of 18 Kbit.
module DP16KD #(
    parameter [319:0] INITVAL_00 = 0, INITVAL_01 = 0, INITVAL_02 = 0, INITVAL_03 = 0, INITVAL_04 = 0, INITVAL_05 = 0,
        INITVAL_06 = 0, INITVAL_07 = 0, INITVAL_08 = 0, INITVAL_09 = 0, INITVAL_0A = 0, INITVAL_0B = 0,
        INITVAL_0C = 0, INITVAL_0D = 0, INITVAL_0E = 0, INITVAL_0F = 0, INITVAL_10 = 0, INITVAL_11 = 0,
        INITVAL_12 = 0, INITVAL_13 = 0, INITVAL_14 = 0, INITVAL_15 = 0, INITVAL_16 = 0, INITVAL_17 = 0,
        INITVAL_18 = 0, INITVAL_19 = 0, INITVAL_1A = 0, INITVAL_1B = 0, INITVAL_1C = 0, INITVAL_1D = 0,
        INITVAL_1E = 0, INITVAL_1F = 0, INITVAL_20 = 0, INITVAL_21 = 0, INITVAL_22 = 0, INITVAL_23 = 0,
        INITVAL_24 = 0, INITVAL_25 = 0, INITVAL_26 = 0, INITVAL_27 = 0, INITVAL_28 = 0, INITVAL_29 = 0,
        INITVAL_2A = 0, INITVAL_2B = 0, INITVAL_2C = 0, INITVAL_2D = 0, INITVAL_2E = 0, INITVAL_2F = 0,
        INITVAL_30 = 0, INITVAL_31 = 0, INITVAL_32 = 0, INITVAL_33 = 0, INITVAL_34 = 0, INITVAL_35 = 0,
        INITVAL_36 = 0, INITVAL_37 = 0, INITVAL_38 = 0, INITVAL_39 = 0, INITVAL_3A = 0, INITVAL_3B = 0,
        INITVAL_3C = 0, INITVAL_3D = 0, INITVAL_3E = 0, INITVAL_3F = 0,
    parameter integer DATA_WIDTH_A = 18, DATA_WIDTH_B = 18,
    parameter REGMODE_A = "NOREG", REGMODE_B = "NOREG", RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC",
    parameter CSDECODE_A = "0b000", CSDECODE_B = "0b000", CLKAMUX = "CLKA", CLKBMUX = "CLKB", GSR = "ENABLED",
    parameter WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL"
) (
    input
        DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1,
        DIA0,
        ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
        CLKA, CEA, OCEA, WEA, RSTA, CSA2, CSA1, CSA0,
    output
        DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1,
        DOA0,
    input
        DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1,
        DIB0,
        ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
        CLKB, CEB, OCEB, WEB, RSTB, CSB2, CSB1, CSB0,
    output
        DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1,
        DOB0
);
    localparam [320*64-1:0] INIT = {
        INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A, INITVAL_39, INITVAL_38, INITVAL_37,
        INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32, INITVAL_31, INITVAL_30, INITVAL_2F, INITVAL_2E,
        INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28, INITVAL_27, INITVAL_26, INITVAL_25,
        INITVAL_24, INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20, INITVAL_1F, INITVAL_1E, INITVAL_1D, INITVAL_1C,
        INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18, INITVAL_17, INITVAL_16, INITVAL_15, INITVAL_14, INITVAL_13,
        INITVAL_12, INITVAL_11, INITVAL_10, INITVAL_0F, INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A,
        INITVAL_09, INITVAL_08, INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04, INITVAL_03, INITVAL_02, INITVAL_01,
        INITVAL_00
    };
    localparam WIDE = DATA_WIDTH_A == 36;  // A writes and B reads, each through both ports' data pins
    if (REGMODE_A != "NOREG" || REGMODE_B != "NOREG" || CSDECODE_A != "0b000" || CSDECODE_B != "0b000"
            || CLKAMUX != "CLKA" || CLKBMUX != "CLKB")
        $error("DP16KD: expected no output registers, no chip select, rising clocks");
    if (mode(WRITEMODE_A) == "" || mode(WRITEMODE_B) == "") $error("DP16KD: write modes %s, %s", WRITEMODE_A, WRITEMODE_B);
    if (DATA_WIDTH_B == 36 && !WIDE) $error("DP16KD: port B has 36 bits only where port A has");
    always_comb begin
        if ({CSA2, CSA1, CSA0, CSB2, CSB1, CSB0} !== 0) $fatal(1, "DP16KD: expected chip selects at 0");
        if (RESETMODE != "SYNC" && {RSTA, RSTB} !== 0) $fatal(1, "DP16KD: expected no asynchronous reset");
        if (WIDE && WEB !== 0) $fatal(1, "DP16KD: expected port B to read where port A has 36 bits");
    end

    function [31:0] mode(input [127:0] name);
        mode = name == "READBEFOREWRITE" ? "OLD" : name == "WRITETHROUGH" ? "NEW" : name == "NORMAL" ? "HELD" : "";
    endfunction
    function [18431:0] contents(input [320*64-1:0] init);  // 20 bits of INITVAL hold a word of 18
        integer n;
        for (n = 0; n < 1024; n = n + 1) contents[18*n+:18] = init[20*n+:18];
    endfunction

    wire [13:0] address_a = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
    wire [13:0] address_b = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
    wire [17:0] in_a = {DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4,
        DIA3, DIA2, DIA1, DIA0};
    wire [17:0] in_b = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4,
        DIB3, DIB2, DIB1, DIB0};
    wire [71:0] wide_a, wide_b;
    // Words of several bytes have their byte enables on the lowest address pins.
    wire [7:0] bytes_a = WIDE ? {4'd0, address_a[3:0]} : DATA_WIDTH_A == 18 ? {6'd0, address_a[1:0]} : 8'd1;
    wire [7:0] bytes_b = DATA_WIDTH_B == 18 ? {6'd0, address_b[1:0]} : 8'd1;
    block_ram #(
        .BYTES(2048), .READ_A(WIDE ? 0 : DATA_WIDTH_A), .READ_B(DATA_WIDTH_B), .WRITE_A(DATA_WIDTH_A),
        .WRITE_B(WIDE ? 0 : DATA_WIDTH_B), .INIT(contents(INIT)),
        .MODE_A(mode(WRITEMODE_A)), .MODE_B(mode(WRITEMODE_B)), .ACROSS(0), .GATED(0)
    ) ram (
        .clk({CLKB, CLKA}), .en({CEB, CEA}), .rst({RSTB, RSTA}), .addr({1'b0, address_b, 1'b0, address_a}),
        .we({{8{WEB}} & bytes_b, {8{WEA}} & bytes_a}), .d({54'd0, in_b, 36'd0, in_b, in_a}), .q({wide_b, wide_a})
    );
    assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1,
        DOA0} = DATA_WIDTH_B == 36 ? wide_b[17:0] : wide_a[17:0];
    assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1,
        DOB0} = DATA_WIDTH_B == 36 ? wide_b[35:18] : wide_b[17:0];
endmodule
