"use strict";
/* Fill the page. */

showQuality();
startPipeline();
startTimeline();
showRoofline();
showExpansion();
showDecompositions();
showConfiguration();
showHead();
