// Cells of UltraScale+ (xcup) that Yosys's own cells_sim.v doesn't model, as our netlists use them. A parameter or pin
// outside of that is refused: by name at elaboration where it isn't declared here, by $error or $fatal otherwise.
// After UG573 (v1.14, block RAM: chapter 1), UG579 (v1.11, DSP48E2: chapters 1 and 2), UG974 (primitives).

// A multiplier of 27 x 18 bits, two's complement, with registers at A, B, the product and P, each one or none.
module DSP48E2 #(
    parameter integer AREG = 1, BREG = 1, MREG = 1, PREG = 1, ACASCREG = 1, BCASCREG = 1,
    parameter integer ADREG = 1, ALUMODEREG = 1, CARRYINREG = 1, CARRYINSELREG = 1, CREG = 1, DREG = 1,
    parameter integer INMODEREG = 1, OPMODEREG = 1,
    parameter AMULTSEL = "A", BMULTSEL = "B", A_INPUT = "DIRECT", B_INPUT = "DIRECT", USE_MULT = "MULTIPLY",
    parameter USE_SIMD = "ONE48"
) (
    input CLK, CEA2, CEB2, CEM, CEP, RSTA, RSTB, RSTM, RSTP,
    input [29:0] A, ACIN,
    input [17:0] B, BCIN,
    input [47:0] C, PCIN,
    input [26:0] D,
    input [4:0] INMODE,
    input [3:0] ALUMODE,
    input [8:0] OPMODE,
    input [2:0] CARRYINSEL,
    input CARRYIN,
    output [47:0] P
);
    if (AREG > 1 || BREG > 1 || ACASCREG != AREG || BCASCREG != BREG || MREG > 1 || PREG > 1)
        $error("DSP48E2: expected at most one register a stage");
    if (ADREG + ALUMODEREG + CARRYINREG + CARRYINSELREG + CREG + DREG + INMODEREG + OPMODEREG != 0)
        $error("DSP48E2: expected no register but of A, B, M, P");
    if (AMULTSEL != "A" || BMULTSEL != "B" || A_INPUT != "DIRECT" || B_INPUT != "DIRECT" || USE_MULT != "MULTIPLY"
            || USE_SIMD != "ONE48")
        $error("DSP48E2: expected a plain product of A and B");
    // UG579 tables 2-4 to 2-7: X and Y take the partial products, Z and W nothing; tables 2-1, 2-2: A2 and B2 as they are.
    always_comb
        if (OPMODE !== 9'b00_000_01_01 || ALUMODE !== 0 || INMODE !== 0 || CARRYIN !== 0 || CARRYINSEL !== 0
                || C !== 0 || D !== 0 || ACIN !== 0 || BCIN !== 0 || PCIN !== 0)
            $fatal(1, "DSP48E2: expected a plain product");

    reg [26:0] a = 0;
    reg [17:0] b = 0;
    reg [47:0] m = 0, p = 0;
    wire signed [26:0] left = AREG != 0 ? a : A[26:0];
    wire signed [17:0] right = BREG != 0 ? b : B;
    wire signed [47:0] product = left * right;
    wire [47:0] sum = MREG != 0 ? m : product;
    assign P = PREG != 0 ? p : sum;
    always @(posedge CLK) begin
        if (RSTA) a <= 0; else if (CEA2) a <= A[26:0];
        if (RSTB) b <= 0; else if (CEB2) b <= B;
        if (RSTM) m <= 0; else if (CEM) m <= product;
        if (RSTP) p <= 0; else if (CEP) p <= sum;
    end
endmodule

// Block RAM as its pins have it: data and parity apart, HALF bytes at each port, both ports' pins together where a word
// is as wide as that (simple dual port: A reads, B writes). UG573: in READ_FIRST mode the other port reads the old word.
module xcup_ramb #(
    parameter integer HALF = 2, BYTES = 2048, READ_A = 0, READ_B = 0, WRITE_A = 0, WRITE_B = 0, REGISTERS = 0,
    parameter MODE_A = "NO_CHANGE", MODE_B = "NO_CHANGE",
    parameter [9*HALF-1:0] START_A = 0, START_B = 0, RESET_A = 0, RESET_B = 0,
    parameter [8*BYTES-1:0] DATA = 0,
    parameter [BYTES-1:0] PARITY = 0
) (
    input clk_a, en_a, rst_a, clk_b, en_b, rst_b,
    input [14:0] addr_a, addr_b,
    input [HALF-1:0] we_a,
    input [2*HALF-1:0] we_b,
    input [8*HALF-1:0] d_a, d_b,
    input [HALF-1:0] p_a, p_b,
    output [8*HALF-1:0] q_a, q_b,
    output [HALF-1:0] qp_a, qp_b,
    input [1:0] high,
    input [4:0] low
);
    localparam WIDE_READ = READ_A == 18 * HALF, WIDE_WRITE = WRITE_B == 18 * HALF;
    if (REGISTERS != 0) $error("RAMB: expected no output registers (DOA_REG, DOB_REG)");
    if (READ_B == 18 * HALF || WRITE_A == 18 * HALF || ((WIDE_READ || WIDE_WRITE) && (READ_B != 0 || WRITE_A != 0)))
        $error("RAMB: expected port A to read and port B to write at %0d bits", 18 * HALF);
    if (mode(MODE_A) == "" || mode(MODE_B) == "") $error("RAMB: write modes %s, %s", MODE_A, MODE_B);
    always_comb if (high !== 2'b11 || low !== 0) $fatal(1, "RAMB: expected ADDREN at 1, SLEEP and registers' pins at 0");

    function [31:0] mode(input [127:0] name);
        mode = name == "READ_FIRST" ? "OLD" : name == "WRITE_FIRST" ? "NEW" : name == "NO_CHANGE" ? "HELD" : "";
    endfunction
    function [9*BYTES-1:0] contents(input [8*BYTES-1:0] data, input [BYTES-1:0] parity);
        integer n;
        for (n = 0; n < BYTES; n = n + 1) contents[9*n+:9] = {parity[n], data[8*n+:8]};
    endfunction
    function [71:0] joined(input [63:0] data, input [7:0] parity);
        integer n;
        for (n = 0; n < 8; n = n + 1) joined[9*n+:9] = {parity[n], data[8*n+:8]};
    endfunction
    function [71:0] value(input [9*HALF-1:0] upper, input [9*HALF-1:0] lower);  // INIT and SRVAL: parities on top
        value = joined({upper[8*HALF-1:0], lower[8*HALF-1:0]}, {upper[9*HALF-1:8*HALF], lower[9*HALF-1:8*HALF]});
    endfunction

    wire [71:0] d_wide = joined({d_b, d_a}, {p_b, p_a}), wide_a, wide_b;
    block_ram #(
        .BYTES(BYTES), .READ_A(READ_A), .READ_B(READ_B), .WRITE_A(WRITE_A), .WRITE_B(WRITE_B),
        .MODE_A(mode(MODE_A)), .MODE_B(mode(MODE_B)), .INIT(contents(DATA, PARITY)),
        .ACROSS({MODE_B == "READ_FIRST", MODE_A == "READ_FIRST"}), .GATED(1),
        .START_A(value(WIDE_READ ? START_B : 0, START_A)), .START_B(value(0, START_B)),
        .RESET_A(value(WIDE_READ ? RESET_B : 0, RESET_A)), .RESET_B(value(0, RESET_B))
    ) ram (
        .clk({clk_b, clk_a}), .en({en_b, en_a}), .rst({rst_b, rst_a}), .addr({addr_b, addr_a}),
        .we({we_b_all, we_a_all}), .d({WIDE_WRITE ? d_wide : joined(d_b, p_b), joined(d_a, p_a)}), .q({wide_b, wide_a})
    );
    wire [7:0] we_a_all = we_a, we_b_all = we_b;
    genvar k;
    for (k = 0; k < HALF; k = k + 1) begin : pins
        assign {qp_a[k], q_a[8*k+:8]} = wide_a[9*k+:9];
        assign {qp_b[k], q_b[8*k+:8]} = WIDE_READ ? wide_a[9*(HALF+k)+:9] : wide_b[9*k+:9];
    end
endmodule

// Block RAM of 18 Kbit: UG974's RAMB18E2.
module RAMB18E2 #(
    parameter [255:0] INIT_00 = 0, INIT_01 = 0, INIT_02 = 0, INIT_03 = 0, INIT_04 = 0, INIT_05 = 0, INIT_06 = 0,
        INIT_07 = 0, INIT_08 = 0, INIT_09 = 0, INIT_0A = 0, INIT_0B = 0, INIT_0C = 0, INIT_0D = 0, INIT_0E = 0,
        INIT_0F = 0, INIT_10 = 0, INIT_11 = 0, INIT_12 = 0, INIT_13 = 0, INIT_14 = 0, INIT_15 = 0, INIT_16 = 0,
        INIT_17 = 0, INIT_18 = 0, INIT_19 = 0, INIT_1A = 0, INIT_1B = 0, INIT_1C = 0, INIT_1D = 0, INIT_1E = 0,
        INIT_1F = 0, INIT_20 = 0, INIT_21 = 0, INIT_22 = 0, INIT_23 = 0, INIT_24 = 0, INIT_25 = 0, INIT_26 = 0,
        INIT_27 = 0, INIT_28 = 0, INIT_29 = 0, INIT_2A = 0, INIT_2B = 0, INIT_2C = 0, INIT_2D = 0, INIT_2E = 0,
        INIT_2F = 0, INIT_30 = 0, INIT_31 = 0, INIT_32 = 0, INIT_33 = 0, INIT_34 = 0, INIT_35 = 0, INIT_36 = 0,
        INIT_37 = 0, INIT_38 = 0, INIT_39 = 0, INIT_3A = 0, INIT_3B = 0, INIT_3C = 0, INIT_3D = 0, INIT_3E = 0,
        INIT_3F = 0,
    parameter [255:0] INITP_00 = 0, INITP_01 = 0, INITP_02 = 0, INITP_03 = 0, INITP_04 = 0, INITP_05 = 0,
        INITP_06 = 0, INITP_07 = 0,
    parameter integer READ_WIDTH_A = 0, READ_WIDTH_B = 0, WRITE_WIDTH_A = 0, WRITE_WIDTH_B = 0,
    parameter WRITE_MODE_A = "NO_CHANGE", WRITE_MODE_B = "NO_CHANGE",
    parameter integer DOA_REG = 1, DOB_REG = 1,
    parameter [17:0] INIT_A = 0, INIT_B = 0, SRVAL_A = 0, SRVAL_B = 0
) (
    input CLKARDCLK, ENARDEN, ADDRENA, RSTRAMARSTRAM, RSTREGARSTREG, REGCEAREGCE,
    input [13:0] ADDRARDADDR,
    input [1:0] WEA,
    input [15:0] DINADIN,
    input [1:0] DINPADINP,
    output [15:0] DOUTADOUT,
    output [1:0] DOUTPADOUTP,
    input CLKBWRCLK, ENBWREN, ADDRENB, RSTRAMB, RSTREGB, REGCEB,
    input [13:0] ADDRBWRADDR,
    input [3:0] WEBWE,
    input [15:0] DINBDIN,
    input [1:0] DINPBDINP,
    output [15:0] DOUTBDOUT,
    output [1:0] DOUTPBDOUTP,
    input SLEEP
);
    xcup_ramb #(
        .HALF(2), .BYTES(2048),
        .READ_A(READ_WIDTH_A), .READ_B(READ_WIDTH_B), .WRITE_A(WRITE_WIDTH_A), .WRITE_B(WRITE_WIDTH_B),
        .MODE_A(WRITE_MODE_A), .MODE_B(WRITE_MODE_B), .REGISTERS(DOA_REG + DOB_REG),
        .START_A(INIT_A), .START_B(INIT_B), .RESET_A(SRVAL_A), .RESET_B(SRVAL_B),
        .DATA({
            INIT_3F, INIT_3E, INIT_3D, INIT_3C, INIT_3B, INIT_3A, INIT_39, INIT_38, INIT_37, INIT_36, INIT_35,
            INIT_34, INIT_33, INIT_32, INIT_31, INIT_30, INIT_2F, INIT_2E, INIT_2D, INIT_2C, INIT_2B, INIT_2A,
            INIT_29, INIT_28, INIT_27, INIT_26, INIT_25, INIT_24, INIT_23, INIT_22, INIT_21, INIT_20, INIT_1F,
            INIT_1E, INIT_1D, INIT_1C, INIT_1B, INIT_1A, INIT_19, INIT_18, INIT_17, INIT_16, INIT_15, INIT_14,
            INIT_13, INIT_12, INIT_11, INIT_10, INIT_0F, INIT_0E, INIT_0D, INIT_0C, INIT_0B, INIT_0A, INIT_09,
            INIT_08, INIT_07, INIT_06, INIT_05, INIT_04, INIT_03, INIT_02, INIT_01, INIT_00
        }),
        .PARITY({
            INITP_07, INITP_06, INITP_05, INITP_04, INITP_03, INITP_02, INITP_01, INITP_00
        })
    ) ram (
        .clk_a(CLKARDCLK), .en_a(ENARDEN), .rst_a(RSTRAMARSTRAM), .addr_a(ADDRARDADDR), .we_a(WEA),
        .d_a(DINADIN), .p_a(DINPADINP), .q_a(DOUTADOUT), .qp_a(DOUTPADOUTP),
        .clk_b(CLKBWRCLK), .en_b(ENBWREN), .rst_b(RSTRAMB), .addr_b(ADDRBWRADDR), .we_b(WEBWE),
        .d_b(DINBDIN), .p_b(DINPBDINP), .q_b(DOUTBDOUT), .qp_b(DOUTPBDOUTP),
        .high({ADDRENA, ADDRENB}), .low({SLEEP, REGCEAREGCE, REGCEB, RSTREGARSTREG, RSTREGB})
    );
endmodule

// Block RAM of 36 Kbit: UG974's RAMB36E2.
module RAMB36E2 #(
    parameter [255:0] INIT_00 = 0, INIT_01 = 0, INIT_02 = 0, INIT_03 = 0, INIT_04 = 0, INIT_05 = 0, INIT_06 = 0,
        INIT_07 = 0, INIT_08 = 0, INIT_09 = 0, INIT_0A = 0, INIT_0B = 0, INIT_0C = 0, INIT_0D = 0, INIT_0E = 0,
        INIT_0F = 0, INIT_10 = 0, INIT_11 = 0, INIT_12 = 0, INIT_13 = 0, INIT_14 = 0, INIT_15 = 0, INIT_16 = 0,
        INIT_17 = 0, INIT_18 = 0, INIT_19 = 0, INIT_1A = 0, INIT_1B = 0, INIT_1C = 0, INIT_1D = 0, INIT_1E = 0,
        INIT_1F = 0, INIT_20 = 0, INIT_21 = 0, INIT_22 = 0, INIT_23 = 0, INIT_24 = 0, INIT_25 = 0, INIT_26 = 0,
        INIT_27 = 0, INIT_28 = 0, INIT_29 = 0, INIT_2A = 0, INIT_2B = 0, INIT_2C = 0, INIT_2D = 0, INIT_2E = 0,
        INIT_2F = 0, INIT_30 = 0, INIT_31 = 0, INIT_32 = 0, INIT_33 = 0, INIT_34 = 0, INIT_35 = 0, INIT_36 = 0,
        INIT_37 = 0, INIT_38 = 0, INIT_39 = 0, INIT_3A = 0, INIT_3B = 0, INIT_3C = 0, INIT_3D = 0, INIT_3E = 0,
        INIT_3F = 0, INIT_40 = 0, INIT_41 = 0, INIT_42 = 0, INIT_43 = 0, INIT_44 = 0, INIT_45 = 0, INIT_46 = 0,
        INIT_47 = 0, INIT_48 = 0, INIT_49 = 0, INIT_4A = 0, INIT_4B = 0, INIT_4C = 0, INIT_4D = 0, INIT_4E = 0,
        INIT_4F = 0, INIT_50 = 0, INIT_51 = 0, INIT_52 = 0, INIT_53 = 0, INIT_54 = 0, INIT_55 = 0, INIT_56 = 0,
        INIT_57 = 0, INIT_58 = 0, INIT_59 = 0, INIT_5A = 0, INIT_5B = 0, INIT_5C = 0, INIT_5D = 0, INIT_5E = 0,
        INIT_5F = 0, INIT_60 = 0, INIT_61 = 0, INIT_62 = 0, INIT_63 = 0, INIT_64 = 0, INIT_65 = 0, INIT_66 = 0,
        INIT_67 = 0, INIT_68 = 0, INIT_69 = 0, INIT_6A = 0, INIT_6B = 0, INIT_6C = 0, INIT_6D = 0, INIT_6E = 0,
        INIT_6F = 0, INIT_70 = 0, INIT_71 = 0, INIT_72 = 0, INIT_73 = 0, INIT_74 = 0, INIT_75 = 0, INIT_76 = 0,
        INIT_77 = 0, INIT_78 = 0, INIT_79 = 0, INIT_7A = 0, INIT_7B = 0, INIT_7C = 0, INIT_7D = 0, INIT_7E = 0,
        INIT_7F = 0,
    parameter [255:0] INITP_00 = 0, INITP_01 = 0, INITP_02 = 0, INITP_03 = 0, INITP_04 = 0, INITP_05 = 0,
        INITP_06 = 0, INITP_07 = 0, INITP_08 = 0, INITP_09 = 0, INITP_0A = 0, INITP_0B = 0, INITP_0C = 0,
        INITP_0D = 0, INITP_0E = 0, INITP_0F = 0,
    parameter integer READ_WIDTH_A = 0, READ_WIDTH_B = 0, WRITE_WIDTH_A = 0, WRITE_WIDTH_B = 0,
    parameter WRITE_MODE_A = "NO_CHANGE", WRITE_MODE_B = "NO_CHANGE",
    parameter integer DOA_REG = 1, DOB_REG = 1,
    parameter [35:0] INIT_A = 0, INIT_B = 0, SRVAL_A = 0, SRVAL_B = 0
) (
    input CLKARDCLK, ENARDEN, ADDRENA, RSTRAMARSTRAM, RSTREGARSTREG, REGCEAREGCE,
    input [14:0] ADDRARDADDR,
    input [3:0] WEA,
    input [31:0] DINADIN,
    input [3:0] DINPADINP,
    output [31:0] DOUTADOUT,
    output [3:0] DOUTPADOUTP,
    input CLKBWRCLK, ENBWREN, ADDRENB, RSTRAMB, RSTREGB, REGCEB,
    input [14:0] ADDRBWRADDR,
    input [7:0] WEBWE,
    input [31:0] DINBDIN,
    input [3:0] DINPBDINP,
    output [31:0] DOUTBDOUT,
    output [3:0] DOUTPBDOUTP,
    input SLEEP
);
    xcup_ramb #(
        .HALF(4), .BYTES(4096),
        .READ_A(READ_WIDTH_A), .READ_B(READ_WIDTH_B), .WRITE_A(WRITE_WIDTH_A), .WRITE_B(WRITE_WIDTH_B),
        .MODE_A(WRITE_MODE_A), .MODE_B(WRITE_MODE_B), .REGISTERS(DOA_REG + DOB_REG),
        .START_A(INIT_A), .START_B(INIT_B), .RESET_A(SRVAL_A), .RESET_B(SRVAL_B),
        .DATA({
            INIT_7F, INIT_7E, INIT_7D, INIT_7C, INIT_7B, INIT_7A, INIT_79, INIT_78, INIT_77, INIT_76, INIT_75,
            INIT_74, INIT_73, INIT_72, INIT_71, INIT_70, INIT_6F, INIT_6E, INIT_6D, INIT_6C, INIT_6B, INIT_6A,
            INIT_69, INIT_68, INIT_67, INIT_66, INIT_65, INIT_64, INIT_63, INIT_62, INIT_61, INIT_60, INIT_5F,
            INIT_5E, INIT_5D, INIT_5C, INIT_5B, INIT_5A, INIT_59, INIT_58, INIT_57, INIT_56, INIT_55, INIT_54,
            INIT_53, INIT_52, INIT_51, INIT_50, INIT_4F, INIT_4E, INIT_4D, INIT_4C, INIT_4B, INIT_4A, INIT_49,
            INIT_48, INIT_47, INIT_46, INIT_45, INIT_44, INIT_43, INIT_42, INIT_41, INIT_40, INIT_3F, INIT_3E,
            INIT_3D, INIT_3C, INIT_3B, INIT_3A, INIT_39, INIT_38, INIT_37, INIT_36, INIT_35, INIT_34, INIT_33,
            INIT_32, INIT_31, INIT_30, INIT_2F, INIT_2E, INIT_2D, INIT_2C, INIT_2B, INIT_2A, INIT_29, INIT_28,
            INIT_27, INIT_26, INIT_25, INIT_24, INIT_23, INIT_22, INIT_21, INIT_20, INIT_1F, INIT_1E, INIT_1D,
            INIT_1C, INIT_1B, INIT_1A, INIT_19, INIT_18, INIT_17, INIT_16, INIT_15, INIT_14, INIT_13, INIT_12,
            INIT_11, INIT_10, INIT_0F, INIT_0E, INIT_0D, INIT_0C, INIT_0B, INIT_0A, INIT_09, INIT_08, INIT_07,
            INIT_06, INIT_05, INIT_04, INIT_03, INIT_02, INIT_01, INIT_00
        }),
        .PARITY({
            INITP_0F, INITP_0E, INITP_0D, INITP_0C, INITP_0B, INITP_0A, INITP_09, INITP_08, INITP_07, INITP_06,
            INITP_05, INITP_04, INITP_03, INITP_02, INITP_01, INITP_00
        })
    ) ram (
        .clk_a(CLKARDCLK), .en_a(ENARDEN), .rst_a(RSTRAMARSTRAM), .addr_a(ADDRARDADDR), .we_a(WEA),
        .d_a(DINADIN), .p_a(DINPADINP), .q_a(DOUTADOUT), .qp_a(DOUTPADOUTP),
        .clk_b(CLKBWRCLK), .en_b(ENBWREN), .rst_b(RSTRAMB), .addr_b(ADDRBWRADDR), .we_b(WEBWE),
        .d_b(DINBDIN), .p_b(DINPBDINP), .q_b(DOUTBDOUT), .qp_b(DOUTPBDOUTP),
        .high({ADDRENA, ADDRENB}), .low({SLEEP, REGCEAREGCE, REGCEB, RSTREGARSTREG, RSTREGB})
    );
endmodule
